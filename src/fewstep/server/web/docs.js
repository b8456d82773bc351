// The API's description as a page: every door, its fields, and a way to try it. No script comes from elsewhere.

import { authorized, takeToken } from "./token.js";

const token = takeToken();
const EXAMPLES = { prompt: "a cat face", seed: 7, steps: 4 };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

async function read(path) {
  const answer = await fetch(path, { headers: authorized(token) });
  if (!answer.ok) throw new Error(answer.status === 401 ? "The server wants its token: add ?token=TOKEN to this page's address." : `${path}: ${answer.status}`);
  return answer.json();
}

function resolved(schema, whole) {
  return schema?.$ref ? schema.$ref.split("/").slice(1).reduce((at, part) => at[part], whole) : schema ?? {};
}

function typeOf(schema, whole) {
  const found = resolved(schema, whole);
  if (found.enum) return found.enum.map((each) => JSON.stringify(each)).join(" | ");
  if ("const" in found) return JSON.stringify(found.const);
  const choices = found.anyOf ?? found.oneOf;
  if (choices) return choices.map((each) => typeOf(each, whole)).filter((name) => name !== "null").join(" | ");
  if (found.type === "array") return `list of ${typeOf(found.items, whole)}`;
  return [found.format === "binary" ? "file" : found.type ?? "anything", limits(found)].filter(Boolean).join(" ");
}

function limits({ minimum, maximum, maxLength }) {
  if (minimum !== undefined || maximum !== undefined) return `${minimum ?? "…"} to ${maximum ?? "…"}`;
  return maxLength === undefined ? "" : `up to ${maxLength} long`;
}

function table(rows) {
  const head = element("tr", {}, ...["Field", "Type", "Default", ""].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map(([name, type, fallback, text]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, type), element("td", {}, fallback), element("td", {}, text)))));
}

function rowsOf(schema, whole) {
  const found = resolved(schema, whole);
  const required = new Set(found.required ?? []);
  return Object.entries(found.properties ?? {}).map(([name, each]) => [
    name, typeOf(each, whole), required.has(name) ? "required" : JSON.stringify(each.default) ?? "", each.description ?? "",
  ]);
}

function operation(path, method, described, whole) {
  const box = element("details", { class: "operation" }, element("summary", {},
    element("span", { class: "method" }, method.toUpperCase()), element("span", { class: "path" }, path),
    element("span", { class: "note" }, described.description?.split("\n")[0] ?? described.summary ?? "")));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) fill(box, path, method, described, whole); });
  return box;
}

function fill(box, path, method, described, whole) {
  const more = described.description?.split("\n").slice(1).join("\n").trim();
  if (more) box.append(element("p", { class: "note" }, more));
  const parameters = described.parameters ?? [];
  if (parameters.length) {
    box.append(table(parameters.map((each) => [each.name, typeOf(each.schema, whole), each.required ? "required" : JSON.stringify(each.schema?.default) ?? "", `in the ${each.in}`])));
  }
  const content = described.requestBody?.content ?? {};
  const [media] = Object.keys(content);
  if (media) {
    box.append(element("p", { class: "note" }, media), table(rowsOf(content[media].schema, whole)));
  }
  if (!media || media === "application/json") box.append(trial(path, method, parameters, content[media]?.schema, whole));
}

// A form for it: a field for each parameter, JSON for the body.
function trial(path, method, parameters, schema, whole) {
  const inputs = parameters.map((each) => [each, element("input", { type: "text", placeholder: typeOf(each.schema, whole) })]);
  const properties = resolved(schema, whole).properties ?? {};
  const example = Object.fromEntries(Object.entries(EXAMPLES).filter(([name]) => name in properties));
  const body = schema && element("textarea", { spellcheck: "false" }, JSON.stringify(example, null, 2));
  const answer = element("div", { role: "status" });
  const send = element("button", { type: "submit", class: "text-button" }, "Send");
  const form = element("form", { class: "try" },
    ...inputs.map(([each, input]) => element("label", {}, each.name, input)),
    ...(body ? [element("label", {}, "Body", body)] : []), send, answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      answer.replaceChildren(...await call(path, method, inputs, body?.value));
    } catch (error) {
      answer.replaceChildren(text(String(error)));
    }
    send.disabled = false;
  });
  return form;
}

// Long text scrolls, by keyboard too.
const text = (content) => element("pre", { tabindex: "0" }, content);

async function call(path, method, inputs, sent) {
  const url = new URL(path.slice(1).replace(/\{(\w+)(:\w+)?\}/g, (_, name) => encodeURIComponent(inputs.find(([each]) => each.name === name)[1].value)), location.href);
  for (const [each, input] of inputs) if (each.in === "query" && input.value) url.searchParams.set(each.name, input.value);
  const headers = authorized(token, sent === undefined ? {} : { "content-type": "application/json" });
  const started = performance.now();
  const answer = await fetch(url, { method: method.toUpperCase(), headers, body: sent });
  const took = `${answer.status} ${answer.statusText} in ${Math.round(performance.now() - started)} ms`;
  const body = await answer.text();
  const type = answer.headers.get("content-type") ?? "";
  if (!type.includes("json")) return [text(`${took}\n\n${body.slice(0, 20_000)}`)];
  const parsed = JSON.parse(body);
  return [text(`${took}\n\n${shortened(parsed)}`), ...pictures(parsed)];
}

// Pictures are looked at, not read.
function shortened(parsed) {
  return JSON.stringify(parsed, (_, value) => typeof value === "string" && value.length > 400 ? `${value.slice(0, 60)}… (${value.length} characters)` : value, 2);
}

function pictures(parsed) {
  const coded = [...(parsed?.data ?? []).map?.((each) => each.b64_json) ?? [], ...(parsed?.images ?? []).map((each) => each.url ?? each)];
  return coded.filter((each) => typeof each === "string" && each.length > 400)
    .map((each) => element("img", { alt: "The picture that came", src: each.startsWith("data:") ? each : `data:image/png;base64,${each}` }));
}

async function show() {
  document.getElementById("raw").hidden = token !== null; // a link shows no token
  const whole = await read("openapi.json");
  const byTag = new Map();
  for (const [path, methods] of Object.entries(whole.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const tag = described.tags?.[0] ?? "other";
      byTag.set(tag, [...byTag.get(tag) ?? [], operation(path, method, described, whole)]);
    }
  }
  const about = new Map((whole.tags ?? []).map((tag) => [tag.name, tag.description]));
  const sections = [...byTag].map(([tag, operations]) => {
    const id = tag.replaceAll(" ", "-");
    document.getElementById("tags").append(element("a", { href: `#${id}` }, tag));
    return element("section", {}, element("h2", { id }, tag),
      ...(about.has(tag) ? [element("p", { class: "note" }, about.get(tag))] : []), ...operations);
  });
  document.getElementById("operations").replaceChildren(...sections);
  await showLive();
}

// The messages of the WebSocket, which OpenAPI has no words for.
async function showLive() {
  const live = await read("v1/live/schema");
  const box = element("details", { class: "operation" }, element("summary", {},
    element("span", { class: "method" }, "WS"), element("span", { class: "path" }, "/v1/live"),
    element("span", { class: "note" }, "Parameters and frames in, pictures out, live")));
  box.append(element("p", { class: "note" }, `Subprotocols: ${live.subprotocols.join(", ")}`), text(live.binary), table(rowsOf(live.parameters, live.parameters)));
  document.getElementById("live").after(box);
}

show().catch((error) => document.getElementById("operations").replaceChildren(element("p", { class: "advice", "data-bad": "true" }, error.message)));
