// The page: state, controls, and what is shown when either changes.

import * as api from "./api.js";
import { saveJson, savePicture, saveReport, saveRows } from "./download.js";
import { countLegend, element, layersOf, makeLegend, showClasses, showLayers, showTable, visible } from "./results.js";
import { setUpTheme } from "./theme.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const state = { models: null, images: [], current: 0, prediction: null, layers: [], looks: new Map(), hidden: new Set(), busy: null };

const viewer = new Viewer($("viewer"), viewerChanged);
setUpTheme($("theme"));
listen();
start();

async function start() {
  try {
    state.models = await api.models();
  } catch (error) {
    return fail(error);
  }
  const { models } = state;
  $("config").textContent = models.config;
  $("choices").append(...models.choices.map(({ name }, place) => {
    const radio = element("input", { type: "radio", name: "detector", value: name, checked: !place });
    radio.addEventListener("change", choiceChanged);
    return element("label", { className: "toggle" }, radio, element("span", {}, name));
  }));
  $("strategy").append(...models.strategies.map((name, place) =>
    element("option", { value: place ? name : "" }, place ? name : `${name} (config)`)));
  state.looks = new Map(models.looks.map((look) => [look.name, look]));
  makeLegend($("legend"), state.looks, state.hidden, showFindings);
  if (models.classes.join() !== $("boxes-title").dataset.only) $("boxes-title").textContent = "Findings";
  $("attention-field").hidden = !models.attention;
  if (!models.structured_report) {
    $("sr-why").hidden = false;
    $("sr-why").textContent = "This server was installed without the extra for DICOM SR.";
  }
  update();
}

function listen() {
  $("files").addEventListener("change", () => {
    take([...$("files").files]);
    $("files").value = ""; // the same file can be chosen again
  });
  $("sample").addEventListener("click", takeSample);
  $("run").addEventListener("click", () => (state.busy ? state.busy.abort() : run()));
  $("strategy").addEventListener("change", choiceChanged);
  $("threshold").addEventListener("input", showFindings);
  $("attention").addEventListener("change", attentionChanged);
  $("level").addEventListener("input", () => viewer.setWindow({ level: Number($("level").value) }));
  $("width").addEventListener("input", () => viewer.setWindow({ width: Number($("width").value) }));
  $("invert").addEventListener("change", () => viewer.setWindow({ invert: $("invert").checked }));
  $("error").querySelector("button").addEventListener("click", () => { $("error").hidden = true; });
  for (const radio of document.querySelectorAll("[name=drag]")) {
    radio.addEventListener("change", () => { viewer.drag = radio.value; });
  }
  const actions = {
    in: () => viewer.zoom(1.25),
    out: () => viewer.zoom(0.8),
    fit: () => viewer.fit(),
    one: () => viewer.image && viewer.zoom(1 / viewer.scale),
    reset: () => { viewer.resetWindow(); viewer.fit(); },
  };
  $("tools").addEventListener("click", (event) => actions[event.target.dataset.do]?.());
  $("downloads").addEventListener("click", (event) => event.target.dataset.save && download(event.target.dataset.save));
  $("viewer").addEventListener("keydown", (event) => {
    const step = { PageUp: -1, PageDown: 1 }[event.key];
    if (step && state.images[state.current + step]) {
      event.preventDefault();
      select(state.current + step);
    }
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

async function takeSample() {
  try {
    tell("Drawing a phantom ...");
    await take([await api.sample()]);
  } catch (error) {
    fail(error);
  }
}

/** Begin a new study with these files. */
async function take(files) {
  if (!files.length) return;
  const { models } = state;
  state.busy?.abort();
  clear();
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (models && files.length > models.max_files) return fail(new Error(`A study can have ${models.max_files} images here, these are ${files.length}.`));
  if (models && size > models.max_upload_bytes) return fail(new Error(`The files are larger than ${models.max_upload_bytes >> 20} MB together.`));
  const images = files.map((file) => ({ file }));
  state.images = images;
  for (const [place, image] of images.entries()) {
    try {
      tell(`Reading image ${place + 1} of ${images.length} ...`);
      Object.assign(image, await api.preview(image.file));
    } catch (error) {
      if (state.images === images) {
        clear();
        fail(error);
      }
      return;
    }
    if (state.images !== images) return; // others were chosen meanwhile
    if (!place) select(0);
    showList();
  }
  tell(images.length > 1 ? `${images.length} images.` : "");
  update();
}

function clear() {
  Object.assign(state, { images: [], current: 0, prediction: null, layers: [] });
  $("error").hidden = true;
  viewer.show(null);
  tell("");
  showList();
  forget();
  update();
}

function forget() {
  state.prediction = null;
  state.layers = [];
  showLayers($("layers"), [], () => {});
  $("classes").replaceChildren(element("li", { className: "quiet" }, "Not run yet"));
  showFindings();
  update();
}

function choiceChanged() {
  state.busy?.abort();
  forget();
}

function select(place) {
  state.current = place;
  const image = state.images[place];
  viewer.show(image.bitmap ? image : null);
  showList();
  showFindings();
  showHeat();
}

const chosen = () => ({
  detector: document.querySelector("[name=detector]:checked").value,
  strategy: $("strategies").hidden ? undefined : $("strategy").value,
});
const filesOf = () => state.images.map((image) => image.file);

async function run() {
  const controller = new AbortController();
  state.busy = controller;
  $("error").hidden = true;
  update();
  const started = performance.now();
  let what = "Sending";
  const clock = setInterval(() => tell(`${what} ... ${((performance.now() - started) / 1000).toFixed(1)} s`), 100);
  const progress = (share) => {
    what = share < 1 ? "Sending" : "Predicting";
    if (share < 1) $("bar").value = share;
    else $("bar").removeAttribute("value");
  };
  try {
    const choice = { ...chosen(), attention: $("attention").checked };
    const prediction = await api.predict(filesOf(), choice, { progress, signal: controller.signal });
    if (state.busy !== controller) return;
    clearInterval(clock);
    finish(prediction, (performance.now() - started) / 1000);
  } catch (error) {
    clearInterval(clock);
    if (error.name === "AbortError") tell("Stopped.");
    else fail(error);
  } finally {
    clearInterval(clock);
    if (state.busy === controller) state.busy = null;
    update();
  }
}

function finish(prediction, seconds) {
  const off = new Set(state.layers.filter((layer) => !layer.on).map((layer) => layer.name));
  const known = new Set(state.layers.map((layer) => layer.name));
  state.prediction = prediction;
  state.layers = layersOf(prediction, state.models.colours);
  for (const layer of state.layers) if (known.has(layer.name)) layer.on = !off.has(layer.name);
  showLayers($("layers"), state.layers, showFindings, Boolean(state.looks.size));
  showClasses($("classes"), prediction.study);
  showFindings();
  showHeat();
  const count = prediction.images.reduce((sum, image) => sum + visible([state.layers[0]], image, threshold(), state.looks).length, 0);
  const boxes = `${count} ${count === 1 ? "box" : "boxes"} from confidence ${threshold().toFixed(2)}`;
  tell(`${boxes}${prediction.study ? `, study ${prediction.study.present.join(", ") || "without a label"}` : ""}; ${seconds.toFixed(1)} s.`);
}

const threshold = () => Number($("threshold").value);
const imageFound = () => state.prediction?.images[state.current];

function showFindings() {
  $("threshold-value").textContent = threshold().toFixed(2);
  const found = imageFound();
  const all = found ? visible(state.layers, found, threshold(), state.looks) : [];
  const boxes = all.filter((box) => !state.hidden.has(box.name));
  viewer.setBoxes(boxes);
  countLegend($("legend"), found ? all : null, state.hidden);
  const empty = all.length ? "Hidden classes alone" : found ? "No box of this confidence" : "Not run yet";
  showTable($("boxes").tBodies[0], boxes, empty, (box) => viewer.setBoxes(boxes, box), state.looks.size > 0);
  $("notes").replaceChildren(...(found?.notes ?? []).map((note) => element("li", {}, note)));
  label();
}

function showHeat() {
  const map = $("attention").checked ? imageFound()?.attention : null;
  viewer.setHeat(map ?? null);
  corner();
}

function attentionChanged() {
  if ($("attention").checked && state.prediction && !imageFound().attention) run();
  else showHeat();
}

/** What the viewer shows, for a picture that the server draws. */
function shown() {
  const [first, ...members] = state.layers;
  return {
    threshold: threshold(),
    attention: $("attention").checked,
    fused: first.on,
    members: members.filter((layer) => layer.on).map((layer) => layer.name),
    hidden: [...state.hidden],
    ...viewer.window,
  };
}

async function download(kind) {
  const { prediction } = state;
  try {
    if (kind === "json") saveJson(prediction);
    if (kind === "csv") saveRows(prediction, filesOf());
    if (kind === "png") {
      tell("Drawing the picture ...");
      savePicture(await api.picture(state.images[state.current].file, { ...chosen(), ...shown() }));
      tell("");
    }
    if (kind === "sr") {
      tell("Writing the report ...");
      saveReport(await api.report(filesOf(), { ...chosen(), threshold: threshold() }));
      tell("");
    }
  } catch (error) {
    fail(error);
  }
}

function update() {
  const ready = state.models && state.images.length && state.images.every((image) => image.bitmap);
  $("run").disabled = !ready;
  $("run").textContent = state.busy ? "Stop" : "Run";
  $("progress").hidden = !state.busy;
  $("strategies").hidden = document.querySelector("[name=detector]:checked")?.value !== "ensemble";
  for (const button of $("downloads").children) {
    button.disabled = !state.prediction || (button.dataset.save === "sr" && !state.models.structured_report);
  }
}

function viewerChanged() {
  const { level, width, invert } = viewer.window;
  $("level").value = level;
  $("width").value = width;
  $("invert").checked = invert;
  $("empty").hidden = Boolean(viewer.image);
  corner();
  label();
}

function corner() {
  const { image } = viewer;
  const map = $("attention").checked && imageFound()?.attention;
  const heat = map ? `\nGrad-CAM of "${map.study_class}"` : "";
  const zoom = image ? Math.round((100 * viewer.scale) / (window.devicePixelRatio || 1)) : 0;
  const { level, width } = viewer.window;
  $("corner").textContent = image ? `${image.width} x ${image.height}  ${zoom} %\nL ${Math.round(level)} W ${Math.round(width)}${heat}` : "";
}

function label() {
  const { image } = viewer;
  const boxes = state.prediction ? `, ${viewer.boxes.length} boxes shown` : "";
  $("viewer").setAttribute("aria-label", image ? `Radiograph ${state.current + 1} of ${state.images.length}, ${image.width} by ${image.height} pixels${boxes}` : "No radiograph yet");
}

function showList() {
  $("list").replaceChildren(...state.images.map((image, place) => {
    const button = element("button", { type: "button", disabled: !image.bitmap }, image.file.name);
    button.setAttribute("aria-current", String(place === state.current));
    button.addEventListener("click", () => select(place));
    return element("li", {}, button);
  }));
}

function tell(text) {
  $("status").textContent = text;
}

function fail(error) {
  tell("");
  $("error").hidden = false;
  $("error").querySelector("p").textContent = error.message;
}
