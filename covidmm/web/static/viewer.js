// A radiograph on a canvas: zoom, pan, window and level, heat and boxes over it.
// Coordinates of boxes are pixels of the original; the picture may be smaller.

import { heatPicture } from "./heat.js";

const ZOOM_STEP = 1.25;
const FULL = { level: 128, width: 255, invert: false };

export class Viewer {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.image = null;
    this.boxes = [];
    this.heat = null;
    this.active = null;
    this.drag = "pan";
    this.window = { ...FULL };
    this.pointers = new Map();
    this.grey = document.createElement("canvas");
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.listen();
  }

  show(image) {
    const same = image && image === this.image;
    this.image = image;
    if (!same) {
      this.window = { ...FULL };
      this.heat = null;
      this.boxes = [];
      if (image) {
        this.source = greyOf(image.bitmap);
        this.grey.width = image.bitmap.width;
        this.grey.height = image.bitmap.height;
        this.applyWindow();
      }
      this.fit();
    }
    this.changed();
  }

  setWindow(values) {
    const limit = (value, low, high) => Math.min(high, Math.max(low, value));
    Object.assign(this.window, values);
    this.window.level = limit(this.window.level, 0, 255);
    this.window.width = limit(this.window.width, 2, 510);
    this.applyWindow();
    this.draw();
    this.changed();
  }

  resetWindow() {
    this.setWindow({ ...FULL });
  }

  applyWindow() {
    if (!this.image) return;
    const { level, width, invert } = this.window;
    const table = new Uint8ClampedArray(256);
    for (let value = 0; value < 256; value += 1) {
      const shown = ((value - level) / width + 0.5) * 255;
      table[value] = invert ? 255 - shown : shown;
    }
    const picture = new ImageData(this.grey.width, this.grey.height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let place = 0; place < pixels.length; place += 1) {
      pixels[place] = 0xff000000 | (table[this.source[place]] * 0x10101);
    }
    this.grey.getContext("2d").putImageData(picture, 0, 0);
  }

  setHeat(map) {
    this.heat = map && { picture: heatPicture(map.rows), region: map.region };
    this.draw();
  }

  setBoxes(boxes, active = null) {
    this.boxes = boxes;
    this.active = active;
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const ratio = window.devicePixelRatio || 1;
    const wasFitted = this.fitted;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    if (wasFitted || !this.scale) this.fit();
    else this.draw();
  }

  fit() {
    if (!this.image) return this.draw();
    const { width, height } = this.image;
    this.scale = Math.min(this.canvas.width / width, this.canvas.height / height) * 0.98;
    this.x = (this.canvas.width - width * this.scale) / 2;
    this.y = (this.canvas.height - height * this.scale) / 2;
    this.fitted = true;
    this.draw();
    this.changed();
  }

  /** Zoom about a point of the canvas, its middle by default. */
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    if (!this.image) return;
    const scale = Math.min(32, Math.max(0.02, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
    this.changed();
  }

  pan(dx, dy) {
    if (!this.image) return;
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.draw();
  }

  draw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      const context = this.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (this.image) paint(context, this, this.x, this.y, this.scale, window.devicePixelRatio || 1);
    });
  }

  listen() {
    const { canvas } = this;
    const place = (event) => {
      const bounds = canvas.getBoundingClientRect();
      const ratio = canvas.width / bounds.width;
      return { x: (event.clientX - bounds.left) * ratio, y: (event.clientY - bounds.top) * ratio };
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const at = place(event);
      this.zoom(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 500)), at.x, at.y);
    }, { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId);
      if (before) this.moved(event, before, place(event));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  moved(event, before, now) {
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.pointers.set(event.pointerId, now);
    if (other) {
      const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoom(spread(now) / spread(before), other.x, other.y);
    } else if (this.drag === "window" || event.shiftKey || event.buttons === 2) {
      const unit = 255 / Math.min(this.canvas.width, this.canvas.height);
      const { level, width } = this.window;
      this.setWindow({ level: level + (now.y - before.y) * unit, width: width + (now.x - before.x) * unit * 2 });
    } else {
      this.pan(now.x - before.x, now.y - before.y);
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.canvas.width / 12;
    const actions = {
      "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP),
      0: () => this.fit(),
      i: () => this.setWindow({ invert: !this.window.invert }),
      ArrowLeft: () => this.pan(step, 0),
      ArrowRight: () => this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step),
      ArrowDown: () => this.pan(0, -step),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action && this.image) {
      event.preventDefault();
      action();
    }
  }
}

/** Draw radiograph, heat and boxes with the original's corner at (x, y); `unit` is the width of a thin line. */
function paint(context, viewer, x, y, scale, unit) {
  const { width, height } = viewer.image;
  context.imageSmoothingEnabled = scale < 4;
  context.imageSmoothingQuality = "high";
  context.drawImage(viewer.grey, x, y, width * scale, height * scale);
  if (viewer.heat) {
    const [x1, y1, x2, y2] = viewer.heat.region;
    context.imageSmoothingEnabled = true;
    const across = (x2 - x1) * width * scale;
    context.drawImage(viewer.heat.picture, x + x1 * width * scale, y + y1 * height * scale, across, (y2 - y1) * height * scale);
  }
  for (const box of viewer.boxes) if (box !== viewer.active) outline(context, box, x, y, scale, unit, false);
  if (viewer.active) outline(context, viewer.active, x, y, scale, unit, true);
}

function outline(context, box, x, y, scale, unit, active) {
  const left = x + box.x * scale;
  const top = y + box.y * scale;
  const width = unit * (active ? 4 : box.strong ? 2.5 : 1.75);
  for (const [more, colour] of [...(box.look ? [[2 * unit, "#000000b3"]] : []), [0, box.colour]]) {
    context.lineWidth = width + more;
    context.strokeStyle = colour;
    context.strokeRect(left, top, box.width * scale, box.height * scale);
  }
  context.fillStyle = box.colour;
  for (const cornerX of box.corners.length ? [left, left + box.width * scale] : []) {
    for (const cornerY of [top, top + box.height * scale]) polygon(context, box.corners, cornerX, cornerY, 1.75 * unit);
  }
  const text = box.title;
  context.font = `600 ${Math.round(12 * unit)}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const wide = context.measureText(text).width + 6 * unit;
  const place = labelPlace(box, left, top, scale, wide, 16 * unit);
  const labelX = Math.max(0, Math.min(place[0], context.canvas.width - wide));
  const labelY = place[1];
  context.fillStyle = box.colour;
  context.fillRect(labelX, labelY, wide, 16 * unit);
  context.fillStyle = box.ink;
  context.fillText(text, labelX + 3 * unit, labelY + 2 * unit);
}

function polygon(context, points, x, y, unit) {
  context.beginPath();
  for (const [dx, dy] of points) context.lineTo(x + dx * unit, y + dy * unit);
  context.closePath();
  context.lineWidth = unit / 2;
  context.strokeStyle = "#000";
  context.stroke();
  context.fill();
}

/** Each layer writes at a corner of its own, so that scores of boxes over each other can be read. */
function labelPlace(box, left, top, scale, wide, high) {
  const right = left + box.width * scale - wide;
  const above = top >= high ? top - high : top;
  const below = top + box.height * scale;
  return [[left, above], [right, below], [right, above], [left, below]][box.corner];
}

function greyOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const grey = new Uint8Array(bitmap.width * bitmap.height);
  for (let place = 0; place < grey.length; place += 1) grey[place] = data[4 * place];
  return grey;
}
