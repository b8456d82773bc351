// Pictures that are dropped, pasted or opened: one of ours brings its parameters back, any other one is drawn on.

import { advise, toast } from "./status.js";
import { authorized } from "./token.js";

const $ = (id) => document.getElementById(id);
const KNOWN = [
  "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "width", "height", "sampler", "model", "upscale",
  "refine_strength", "refine_steps", "tile", "variation", "variation_seed", "timesteps",
  "precision", "decoder",
];

export function takePictures({ sources, token, restore }) {
  async function take(file) {
    if (!file?.type.startsWith("image/")) return;
    try {
      const made = sources.name === "words" && file.type === "image/png" ? await parameters(file, token) : null;
      if (made) {
        restore(made);
        toast("Its parameters are back; choose Draw to draw over it");
      } else await sources.put(await createImageBitmap(file));
    } catch {
      advise("This file cannot be read as a picture.", true);
    }
  }

  $("open").addEventListener("change", () => { take($("open").files[0]); $("open").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); $("panes").classList.add("dragging"); });
  addEventListener("dragleave", () => $("panes").classList.remove("dragging"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("panes").classList.remove("dragging");
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) { event.preventDefault(); take(file); }
  });
}

// How a picture was made, where it says so.
async function parameters(file, token) {
  const coded = await new Promise((done, failed) => {
    const reader = new FileReader();
    Object.assign(reader, { onload: () => done(reader.result), onerror: failed });
    reader.readAsDataURL(file);
  });
  const headers = authorized(token, { "content-type": "application/json" });
  const answer = await fetch("sdapi/v1/png-info", { method: "POST", headers, body: JSON.stringify({ image: coded }) });
  if (!answer.ok) return null;
  const { parameters: found } = await answer.json();
  const kept = Object.fromEntries(KNOWN.filter((name) => found[name] !== undefined && found[name] !== null).map((name) => [name, found[name]]));
  if (found.loras?.length) kept.loras = Object.fromEntries(found.loras.map(({ name, weight }) => [name, weight]));
  return kept.prompt === undefined ? null : kept;
}
