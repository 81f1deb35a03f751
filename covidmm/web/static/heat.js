// Grad-CAM cells as a small coloured picture; stretched over the radiograph it is smoothed by the canvas.

// Dark violet over orange to pale yellow: even steps of brightness, readable without colour.
const STOPS = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const STRENGTH = 0.6;

function colour(value) {
  const place = Math.min(0.9999, Math.max(0, value)) * (STOPS.length - 1);
  const low = Math.floor(place);
  return STOPS[low].map((start, part) => start + (STOPS[low + 1][part] - start) * (place - low));
}

export function heatPicture(rows) {
  const canvas = document.createElement("canvas");
  canvas.width = rows[0].length;
  canvas.height = rows.length;
  const picture = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((value, place) => {
    picture.data.set([...colour(value), 255 * STRENGTH * value], 4 * place);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
