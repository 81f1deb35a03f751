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

/** Boxes of the layers that are on, from a confidence, best first; of several classes each says its own. */
export function visible(layers, image, threshold, classes = []) {
  const found = layers.filter((layer) => layer.on).flatMap((layer) =>
    layer.boxes(image).filter((box) => box.score >= threshold).map((box) => ({ ...box, title: `${classes.length > 1 ? `${box.name} ` : ""}${box.score.toFixed(2)}`, by: layer.name, colour: layer.colour, ink: layer.ink, strong: layer.strong, corner: layer.corner })));
  return found.sort((one, other) => other.score - one.score);
}

export function showLayers(place, layers, changed) {
  place.hidden = !layers.length;
  place.replaceChildren(place.querySelector("legend"), ...layers.map((layer) => {
    const box = element("input", { type: "checkbox", checked: layer.on });
    box.addEventListener("change", () => {
      layer.on = box.checked;
      changed();
    });
    return element("label", { className: "layer" }, box, swatch(layer.colour), layer.title);
  }));
}

function swatch(colour) {
  const made = element("i", { className: "swatch" });
  made.setAttribute("aria-hidden", "true");
  made.style.background = colour;
  return made;
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
export function showTable(body, boxes, empty, point, classes = []) {
  const several = classes.length > 1;
  body.parentElement.querySelector(".finding").hidden = !several;
  if (!boxes.length) {
    body.replaceChildren(element("tr", {}, element("td", { colSpan: 7, className: "quiet" }, empty)));
    return;
  }
  body.replaceChildren(...boxes.map((box) => {
    const cells = [box.score.toFixed(3), ...[box.x, box.y, box.width, box.height].map((value) => value.toFixed(1))];
    const row = element("tr", { tabIndex: 0 }, element("td", {}, swatch(box.colour), box.by), ...(several ? [element("td", {}, box.name)] : []), ...cells.map((text) => element("td", { className: "number" }, text)));
    for (const name of ["pointerenter", "focus"]) row.addEventListener(name, () => point(box));
    for (const name of ["pointerleave", "blur"]) row.addEventListener(name, () => point(null));
    return row;
  }));
}
