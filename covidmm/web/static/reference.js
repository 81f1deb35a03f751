// The API's reference, made of the server's own OpenAPI document.

import { element } from "./results.js";
import { setUpTheme } from "./theme.js";

const ROOT = document.getElementById("reference");
setUpTheme(document.getElementById("theme"));

function parameters(operation) {
  const rows = (operation.parameters ?? []).map(({ name, description, schema }) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, String(schema.default ?? "")), element("td", {}, description ?? "")));
  if (!rows.length) return [];
  const head = ["Query", "Default", "Meaning"].map((text) => element("th", { scope: "col" }, text));
  return [element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)))];
}

function example(method, path, operation) {
  const files = operation.requestBody ? ' -F "files=@radiograph.dcm"' : "";
  return element("pre", {}, `curl${files} ${location.origin}${path}`);
}

function answers(operation) {
  const texts = Object.entries(operation.responses).map(([status, { description, content }]) =>
    `${status} ${description}${content ? ` (${Object.keys(content).join(", ")})` : ""}`);
  return element("p", { className: "quiet" }, `Answers: ${texts.join("; ")}.`);
}

try {
  const found = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const title = element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`), ` ${operation.summary}`);
      ROOT.append(element("section", {}, title, ...parameters(operation), example(method, path, operation), answers(operation)));
    }
  }
} catch {
  ROOT.append(element("p", {}, "The server cannot be reached."));
}
