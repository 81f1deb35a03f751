// Downloads. JSON and submission rows are made in the browser, picture and report by the server, which keeps nothing.

const SAFE_NAME = /^\w([\w. ~-]*[\w.~-])?$/;

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const stem = (name) => name.replace(/\.[^.]*$/, "");

export function saveJson(prediction) {
  save(new Blob([JSON.stringify(prediction, null, 2)], { type: "application/json" }), "covidmm.json");
}

/** The rows of a submission; an image has the name of its file where that can be an id. */
export function saveRows(prediction, files) {
  const names = files.map((file) => stem(file.name));
  const unique = new Set(names).size === names.length && names.every((name) => SAFE_NAME.test(name));
  const lines = prediction.submission.map(({ id, prediction: text }) => {
    const image = id.match(/^image(\d+)_image$/);
    return `${image && unique ? `${names[image[1] - 1]}_image` : id},${text}`;
  });
  save(new Blob([["id,PredictionString", ...lines, ""].join("\n")], { type: "text/csv" }), "submission.csv");
}

export const savePicture = (blob) => save(blob, "covidmm.png");

export const saveReport = (blob) => save(blob, "covidmm_sr.dcm");
