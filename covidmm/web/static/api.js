// The server's addresses. Every failure becomes an Error whose message is fit for the page.

const BASE = "api/v1/";

async function checked(response) {
  if (response.ok) return response;
  throw new Error(await sentence(response.status, () => response.json()));
}

async function sentence(status, body) {
  try {
    return (await body()).detail;
  } catch {
    return `The server answered ${status}.`;
  }
}

async function get(path) {
  try {
    return await checked(await fetch(BASE + path));
  } catch (error) {
    throw error instanceof TypeError ? new Error("The server cannot be reached.") : error;
  }
}

function formOf(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  return form;
}

/** POST files; `progress` gets the share that is sent, 1 when the server works. XMLHttpRequest alone tells it. */
function post(path, files, { type, progress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", BASE + path);
    request.responseType = "blob";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onerror = () => reject(new Error("The server cannot be reached, or it refused so large an upload."));
    request.onabort = () => reject(new DOMException("Stopped", "AbortError"));
    request.onload = async () => {
      if (request.status === 200) {
        resolve(type === "json" ? JSON.parse(await request.response.text()) : request);
      } else {
        reject(new Error(await sentence(request.status, async () => JSON.parse(await request.response.text()))));
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(formOf(files));
  });
}

export const models = async () => (await get("models")).json();

export async function sample() {
  const blob = await (await get("sample")).blob();
  return new File([blob], "phantom.dcm", { type: "application/dicom" });
}

/** What the models see of a file: its picture, and the size of the original. */
export async function preview(file) {
  const request = await post("preview", [file]);
  return {
    bitmap: await createImageBitmap(request.response),
    width: Number(request.getResponseHeader("X-Image-Width")),
    height: Number(request.getResponseHeader("X-Image-Height")),
  };
}

function query(choice) {
  const known = Object.entries(choice).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  return new URLSearchParams(known.filter(([, value]) => value !== undefined && value !== "")).toString();
}

export const predict = (files, choice, options) => post(`predict?${query(choice)}`, files, { type: "json", ...options });

export const picture = async (file, choice) => (await post(`picture?${query(choice)}`, [file])).response;

export const report = async (files, choice) => (await post(`report?${query(choice)}`, files)).response;
