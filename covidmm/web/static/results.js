// The findings beside the radiograph: study classes, layers, table.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The layers that a prediction has: the fusion and its members, or the one detector; colours as the server draws them. */
export function layersOf(prediction, colours) {
  const fused = prediction.detector === "ensemble";
  const name = fused ? "fusion" : prediction.detector;
  const title = fused ? `fusion (${prediction.strategy})` : name;
  const { line: colour, text: ink } = colours.ensemble;
  const first = { name, title, strong: true, corner: 0, colour, ink, boxes: (image) => image.fused, on: true };
  const members = fused ? Object.keys(prediction.images[0].members) : [];
  return [first, ...members.map((member, place) => ({
    name: member,
    title: member,
    strong: false,
    corner: 1 + (place % 3),
    colour: colours[member].line,
    ink: colours[member].text,
    boxes: (image) => image.members[member],
    on: false,
  }))];
}

/**
 * Boxes of the layers that are on, from a confidence, best first. Of several classes each has its class's look (`looks`
 * by name) and says its name, and one of a member the member's number.
 */
export function visible(layers, image, threshold, looks) {
  const found = layers.flatMap((layer, number) => (layer.on ? layer.boxes(image) : [])
    .filter((box) => box.score >= threshold)
    .map((box) => ({ ...box, ...drawn(layer, number, box, looks.get(box.name)) })));
  return found.sort((one, other) => other.score - one.score);
}

function drawn({ name: by, strong, corner, colour, ink }, number, { name, score }, look) {
  const box = { by, strong, corner, colour, ink, title: score.toFixed(2), corners: [] };
  if (!look) return box;
  const title = `${number ? `${number} ` : ""}${name} ${box.title}`;
  return { ...box, look, title, colour: look.line, ink: look.text, corners: look.corners };
}

/** A switch for each layer; where colours are those of classes (`numbered`), members have numbers instead. */
export function showLayers(place, layers, changed, numbered) {
  place.hidden = !layers.length;
  place.replaceChildren(place.querySelector("legend"), ...layers.map((layer, number) => {
    const box = element("input", { type: "checkbox", checked: layer.on });
    box.addEventListener("change", () => {
      layer.on = box.checked;
      changed();
    });
    const title = numbered && number ? `${number} ${layer.title}` : layer.title;
    return element("label", { className: "layer" }, box, numbered ? "" : swatch(layer.colour), title);
  }));
}

function swatch(colour) {
  const made = element("i", { className: "swatch" });
  made.setAttribute("aria-hidden", "true");
  made.style.background = colour;
  return made;
}

/** A small picture of a box of a class. */
function key(look) {
  const [width, height, unit] = [28, 20, 1.1];
  const node = (name, values) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(values)) made.setAttribute(attribute, value);
    return made;
  };
  const made = node("svg", { class: "key", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  made.append(node("rect", { x: 6, y: 6, width: width - 12, height: height - 12, fill: "none", stroke: look.line, "stroke-width": 2 }));
  for (const x of look.corners.length ? [6, width - 6] : []) {
    for (const y of [6, height - 6]) {
      const points = look.corners.map(([dx, dy]) => `${x + dx * unit},${y + dy * unit}`).join(" ");
      made.append(node("polygon", { points, fill: look.line }));
    }
  }
  return made;
}

/** The legend of several classes: a switch for each, which `hidden` keeps, a set of names; and two for all of them. */
export function makeLegend(place, looks, hidden, changed) {
  place.hidden = !looks.size;
  const boxes = [...looks.values()].map((look) => {
    const box = element("input", { type: "checkbox", checked: !hidden.has(look.name), value: look.name });
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](look.name);
      changed();
    });
    return box;
  });
  for (const [name, checked] of [["all", true], ["none", false]]) {
    place.querySelector(`[data-classes=${name}]`).addEventListener("click", () => {
      for (const box of boxes) {
        box.checked = checked;
        hidden[checked ? "delete" : "add"](box.value);
      }
      changed();
    });
  }
  place.querySelector("ul").replaceChildren(...boxes.map((box) => {
    const count = element("span", { className: "number count" });
    return element("li", {}, element("label", { className: "finding-class" }, box, key(looks.get(box.value)), element("span", {}, box.value), count));
  }));
}

/** How many boxes of each class there are, hidden or not; before a run, `boxes` is null. */
export function countLegend(place, boxes, hidden) {
  for (const item of place.querySelectorAll("li")) {
    const { value } = item.querySelector("input");
    const count = boxes?.filter((box) => box.name === value).length ?? 0;
    item.classList.toggle("absent", Boolean(boxes) && !count);
    item.querySelector(".count").textContent = boxes ? count : "";
  }
  const left = boxes?.filter((box) => hidden.has(box.name)).length ?? 0;
  place.querySelector("p").textContent = left ? `${left} ${left === 1 ? "box" : "boxes"} of hidden classes` : "";
}

export function showClasses(place, study) {
  if (!study) {
    place.replaceChildren(element("li", { className: "quiet" }, "There is no study classifier"));
    return;
  }
  place.replaceChildren(...Object.entries(study.probabilities).map(([name, value]) => {
    const predicted = study.present.includes(name);
    const bar = element("span", { className: "bar" }, element("i"));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.width = `${100 * value}%`;
    const mark = predicted ? element("b", { className: "mark" }, "predicted") : "";
    const text = element("span", { className: "name" }, name, " ", mark);
    return element("li", { className: predicted ? "predicted" : "" }, text, element("span", { className: "number" }, value.toFixed(3)), bar);
  }));
}

/** A row per box, with its class where there are several; `point` gets the box that pointer or focus is on, or null. */
export function showTable(body, boxes, empty, point, several) {
  body.parentElement.querySelector("th.finding").hidden = !several;
  if (!boxes.length) {
    body.replaceChildren(element("tr", {}, element("td", { colSpan: 7, className: "quiet" }, empty)));
    return;
  }
  body.replaceChildren(...boxes.map((box) => {
    const cells = [box.score.toFixed(3), ...[box.x, box.y, box.width, box.height].map((value) => value.toFixed(1))];
    const row = element("tr", { tabIndex: 0 }, element("td", {}, several ? "" : swatch(box.colour), box.by), ...(several ? [element("td", { className: "finding" }, key(box.look), element("span", {}, box.name))] : []), ...cells.map((text) => element("td", { className: "number" }, text)));
    for (const name of ["pointerenter", "focus"]) row.addEventListener(name, () => point(box));
    for (const name of ["pointerleave", "blur"]) row.addEventListener(name, () => point(null));
    return row;
  }));
}
