// The findings beside the radiograph: study classes, layers, table.

// Told apart by the colour-blind too, and bright on a radiograph; the first is the fusion's.
const COLOURS = ["#ffc247", "#4cc9f0", "#ff7ab6", "#7ee081", "#c3a6ff", "#ffffff"];

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The layers that a prediction has: the fusion and its members, or the one detector. */
export function layersOf(prediction) {
  const members = Object.keys(prediction.images[0].members);
  if (prediction.detector !== "ensemble") {
    return [{ name: prediction.detector, title: prediction.detector, strong: true, corner: 0, colour: COLOURS[0], boxes: (image) => image.fused, on: true }];
  }
  const title = `fusion (${prediction.strategy})`;
  const fusion = { name: "fusion", title, strong: true, corner: 0, colour: COLOURS[0], boxes: (image) => image.fused, on: true };
  return [fusion, ...members.map((name, place) => ({
    name,
    title: name,
    strong: false,
    corner: 1 + (place % 3),
    colour: COLOURS[1 + (place % (COLOURS.length - 1))],
    boxes: (image) => image.members[name],
    on: false,
  }))];
}

/** Boxes of the layers that are on, from a confidence, best first. */
export function visible(layers, image, threshold) {
  const found = layers.filter((layer) => layer.on).flatMap((layer) =>
    layer.boxes(image).filter((box) => box.score >= threshold).map((box) => ({ ...box, by: layer.name, colour: layer.colour, strong: layer.strong, corner: layer.corner })));
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
    place.replaceChildren(element("li", { className: "quiet" }, "No study classifier was asked"));
    return;
  }
  place.replaceChildren(...Object.entries(study.probabilities).map(([name, value]) => {
    const predicted = name === study.predicted;
    const bar = element("span", { className: "bar" }, element("i"));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.width = `${100 * value}%`;
    const mark = predicted ? element("b", { className: "mark" }, "predicted") : "";
    const text = element("span", { className: "name" }, name, " ", mark);
    return element("li", { className: predicted ? "predicted" : "" }, text, element("span", { className: "number" }, value.toFixed(3)), bar);
  }));
}

/** A row per box; `point` is called with the box that pointer or focus is on, or null. */
export function showTable(body, boxes, empty, point) {
  if (!boxes.length) {
    body.replaceChildren(element("tr", {}, element("td", { colSpan: 6, className: "quiet" }, empty)));
    return;
  }
  body.replaceChildren(...boxes.map((box) => {
    const cells = [box.score.toFixed(3), ...[box.x, box.y, box.width, box.height].map((value) => value.toFixed(1))];
    const row = element("tr", { tabIndex: 0 }, element("td", {}, swatch(box.colour), box.by), ...cells.map((text) => element("td", { className: "number" }, text)));
    for (const name of ["pointerenter", "focus"]) row.addEventListener(name, () => point(box));
    for (const name of ["pointerleave", "blur"]) row.addEventListener(name, () => point(null));
    return row;
  }));
}
