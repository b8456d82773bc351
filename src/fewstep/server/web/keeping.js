// A picture to take along: as a file, as a link, as a command.

import { jpeg } from "./capture.js";
import { snippets } from "./snippets.js";
import { advise, toast } from "./status.js";
import { authorized } from "./token.js";

const $ = (id) => document.getElementById(id);

// The picture that is shown, painted once more and without loss, its parameters inside.
export async function download(wanted, model, sources, token) {
  const { prompt, negative_prompt: negative, width, height, strength, guidance_scale: guidance, seed, steps, loras } = wanted;
  const fields = { prompt, model, seed, steps, guidance_scale: guidance, size: `${width}x${height}` };
  if (negative) fields.negative_prompt = negative;
  if (loras) fields.loras = loras;
  const answer = sources.name === "words"
    ? await fetch("v1/images/generations", { method: "POST", headers: authorized(token, { "content-type": "application/json" }), body: JSON.stringify(fields) })
    : await fetch("v1/images/edits", { method: "POST", headers: authorized(token), body: await form({ ...fields, strength }, sources, width, height) });
  const told = await answer.json();
  if (!answer.ok) { advise(told.error.message, true); return; }
  const link = document.createElement("a");
  link.href = `data:image/png;base64,${told.data[0].b64_json}`;
  link.download = `${(prompt || "picture").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${seed}.png`;
  link.click();
}

async function form(fields, sources, width, height) {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) made.append(name, name === "loras" ? JSON.stringify(value) : value);
  made.append("image", new Blob([await jpeg(sources.canvas, width, height)], { type: "image/jpeg" }), "input.jpg");
  if (sources.masked) made.append("mask", await sources.drawing.hole(width, height), "mask.png");
  return made;
}

export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    advise("The browser does not let this page copy; select the text instead.", true);
  }
}

export function showSnippets(wanted, circumstances) {
  $("snippets").replaceChildren(...snippets(wanted, circumstances).map(([title, text]) => {
    const snippet = document.createElement("section");
    snippet.className = "snippet";
    const header = document.createElement("header");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "text-button", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.addEventListener("click", () => copy(text, "Copied"));
    header.append(title, button);
    const code = document.createElement("pre");
    code.tabIndex = 0;
    code.textContent = text;
    snippet.append(header, code);
    return snippet;
  }));
  $("code").showModal();
}
