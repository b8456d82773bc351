// The page: one state, shown in controls and address, sent to the server; what comes back is shown and measured.

import { Capture, jpeg } from "./capture.js";
import { Controls } from "./controls.js";
import { Drawing } from "./drawing.js";
import { History } from "./history.js";
import { Live } from "./live.js";
import { snippets } from "./snippets.js";

const $ = (id) => document.getElementById(id);
const IDEAS = ["a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot", "a red car"];
const IN_ADDRESS = ["model", "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "strength", "width", "height", "sampler"];
const NUMBERS = new Set(["seed", "steps", "guidance_scale", "strength", "width", "height"]);
const REST = 1200; // ms without a change before a picture enters the history

const token = takeToken();
const live = new Live(token);
const controls = new Controls($("controls"));
const drawing = new Drawing($("drawing"), $("mask"));
const capture = new Capture($("video"));
const history = new History($("history"));
let source = "words";
let models = {}; // the controls of each
let model = ""; // the one that paints
let prompt = "";
let other = null; // the connection that paints the comparison
let painted = null; // the newest picture's facts
let frames = [];
let resting = null;

// ---- what goes out

function state() {
  const wanted = { prompt };
  for (const name of controls.specifications.keys()) if (name in controls.values) wanted[name] = controls.values[name];
  return wanted;
}

function change(changes) {
  if (!controls.locked && !("seed" in changes)) changes.seed = controls.shuffle();
  if ("prompt" in changes) prompt = changes.prompt;
  live.set(changes);
  other?.set({ ...changes, ...compared() });
  if (live.open) setState("painting");
  remember();
  rest();
}

function everything() {
  const refine = $("refine").checked;
  const wanted = { ...state(), previews: $("previews").checked, refine_steps: refine ? controls.values.steps : null };
  return refine ? { ...wanted, steps: 1 } : wanted;
}

async function sendFrame(force = false) {
  if (source === "words" || !live.open || (live.busy && !force)) return;
  const from = source === "draw" ? drawing.canvas : $("video");
  if (source !== "draw" && !capture.running) return;
  const { width, height } = controls.values;
  const [picture, mask] = [dirty.picture || force || source !== "draw", dirty.mask && source === "draw"];
  dirty = { picture: false, mask: false };
  for (const each of [live, other]) {
    if (picture) each?.frame(await jpeg(from, width, height));
    if (mask && drawing.masked) each?.frame(await jpeg(drawing.maskPicture(), width, height), { mask });
    else if (mask) each?.set({}, { mask: null });
  }
  setState("painting");
  rest();
}

let dirty = { picture: false, mask: false }; // what has changed since it was sent
drawing.addEventListener("change", ({ detail }) => {
  dirty[detail.mask ? "mask" : "picture"] = true;
  $("undo").disabled = !drawing.past.length;
  $("redo").disabled = !drawing.future.length;
  sendFrame();
});

// ---- what comes back

live.addEventListener("hello", ({ detail }) => {
  const fromAddress = readAddress();
  models = detail.models;
  if (!detail.resumed || !controls.inputs.size) {
    const wanted = { ...detail.parameters, ...fromAddress };
    build((wanted.model ?? "") in models ? wanted.model : detail.model, wanted);
    prompt = fromAddress.prompt ?? detail.parameters.prompt;
    $("prompt").value = prompt;
  }
  live.set(everything());
  dirty.mask = drawing.masked;
  if (source !== "words") sendFrame(true);
});

function build(name, wanted) {
  model = name;
  controls.build(models[model], { ...wanted, model });
  controls.show("strength", source !== "words");
  $("model").textContent = model;
  const { width, height } = controls.values;
  for (const id of ["drawing", "output", "compare-output"]) $(id).style.aspectRatio = `${width} / ${height}`;
  offerComparisons();
}

live.addEventListener("picture", async ({ detail }) => {
  await draw($("output"), detail.blob);
  $("empty").hidden = true;
  const now = performance.now();
  frames = [...frames.filter((at) => now - at < 1000), now];
  if (detail.kind !== "preview") {
    painted = detail;
    if (detail.sentAt && detail.kind === "picture") {
      requestAnimationFrame(() => { $("latency").textContent = Math.round(performance.now() - detail.sentAt); });
    }
    $("caption").textContent = `${detail.steps} ${detail.steps === 1 ? "step" : "steps"} · seed ${detail.seed} · ${Math.round(detail.worked)} ms`;
    setState(live.busy ? "painting" : "live");
    if (dirty.picture || dirty.mask || source === "camera" || source === "screen") sendFrame();
  }
  $("fps").textContent = frames.length;
  if (detail.kind !== "preview") $("output").setAttribute("aria-label", `The picture: ${prompt || "no words"}`);
});

live.addEventListener("state", ({ detail }) => setState(detail.state, detail.reason));
live.addEventListener("advice", ({ detail }) => advise(detail.messages.join(" ")));
live.addEventListener("error", ({ detail }) => { advise(detail.message, true); setState("live"); });
live.addEventListener("queued", ({ detail }) => setState("painting", `number ${detail.position} in line`));

async function draw(canvas, blob) {
  const picture = await createImageBitmap(blob);
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

setInterval(() => {
  const now = performance.now();
  frames = frames.filter((at) => now - at < 1000);
  $("fps").textContent = frames.length || "–";
}, 500);

const STATES = { connecting: "connecting", live: "live", painting: "painting", lost: "reconnecting", full: "server is full" };

function setState(name, reason = "") {
  $("state").dataset.state = name;
  $("state").textContent = STATES[name];
  $("state").title = reason;
  if (name === "live" || name === "painting") return;
  if (reason) advise(reason, true);
}

let adviceTimer;
function advise(text, bad = false) {
  $("advice").textContent = text;
  $("advice").dataset.bad = String(bad);
  clearTimeout(adviceTimer);
  adviceTimer = setTimeout(() => { $("advice").textContent = ""; }, 8000);
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").dataset.shown = "true";
  setTimeout(() => { $("toast").dataset.shown = "false"; }, 1800);
}

// ---- the words

$("prompt").addEventListener("input", () => change({ prompt: $("prompt").value }));
$("prompt-form").addEventListener("submit", (event) => event.preventDefault());
$("shuffle").addEventListener("click", () => change({ seed: controls.shuffle() }));
for (const idea of IDEAS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = idea;
  button.addEventListener("click", () => { $("prompt").value = idea; change({ prompt: idea }); });
  $("ideas").append(button);
}

controls.addEventListener("change", ({ detail }) => {
  if ("model" in detail) { // what the new one can be asked for; what both know the same way stays
    const { width, height, seed, negative_prompt } = controls.values;
    build(detail.model, { width, height, seed, negative_prompt });
    change({ sampler: null, loras: {}, ...everything(), seed });
  } else if ($("refine").checked && "steps" in detail) change({ refine_steps: detail.steps, steps: 1 });
  else change({ ...detail });
  if (source !== "words" && ("width" in detail || "height" in detail)) sendFrame(true);
});
for (const id of ["previews", "refine"]) {
  $(id).addEventListener("change", () => change(everything()));
}

// ---- what it starts from

async function choose(name) {
  const before = source;
  const obstacle = name === "camera" || name === "screen" ? Capture.obstacle() : null;
  if (obstacle) { advise(obstacle, true); return; }
  capture.stop();
  source = name;
  if (name === "camera" || name === "screen") {
    try {
      await capture.start(name);
    } catch (error) {
      source = before === name ? "words" : before;
      advise(error.name === "NotAllowedError" ? "The browser was told not to lend it." : `It cannot be opened: ${error.message}`, true);
    }
  }
  for (const button of $("sources").children) {
    const chosen = button.dataset.source === source;
    button.setAttribute("aria-checked", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
  $("input-pane").hidden = source === "words";
  $("layers").hidden = $("tools").hidden = source !== "draw";
  $("video").hidden = source === "draw" || source === "words";
  controls.show("strength", source !== "words");
  if (source !== "draw") live.set({}, source === "words" ? { image: null } : { mask: null });
  if (source !== "words") {
    dirty.mask = drawing.masked;
    sendFrame(true);
  }
}

$("sources").addEventListener("click", ({ target }) => {
  const button = target.closest("[data-source]");
  if (button) choose(button.dataset.source);
});
$("sources").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...$("sources").children];
  const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
  next.focus();
  next.click();
  event.preventDefault();
});
$("video").addEventListener("playing", () => sendFrame(true));
setInterval(() => { if (source === "camera" || source === "screen") sendFrame(); }, 200); // where an answer was lost

for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => useTool(button.dataset.tool));
}
function useTool(name) {
  drawing.tool = name;
  for (const each of document.querySelectorAll("[data-tool]")) each.setAttribute("aria-pressed", String(each.dataset.tool === name));
}
$("colour").addEventListener("input", () => { drawing.colour = $("colour").value; useTool("brush"); });
$("brush-size").addEventListener("input", () => { drawing.size = Number($("brush-size").value); });
$("undo").addEventListener("click", () => drawing.undo());
$("redo").addEventListener("click", () => drawing.redo());
$("clear").addEventListener("click", () => drawing.clear());
$("open").addEventListener("change", () => takePicture($("open").files[0]));
$("use-as-input").addEventListener("click", async () => { await choose("draw"); await drawing.put($("output")); });

async function takePicture(file) {
  if (!file?.type.startsWith("image/")) return;
  try {
    const picture = await createImageBitmap(file);
    await choose("draw");
    await drawing.put(picture);
  } catch {
    advise("This file cannot be read as a picture.", true);
  }
}
addEventListener("dragover", (event) => { event.preventDefault(); $("panes").classList.add("dragging"); });
addEventListener("dragleave", () => $("panes").classList.remove("dragging"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("panes").classList.remove("dragging");
  takePicture(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) { event.preventDefault(); takePicture(file); }
});

// ---- comparing

const COMPARED_STEPS = [1, 2, 4, 8];

// The same model in other numbers of steps, and every other model in its own.
function offerComparisons() {
  const chosen = $("compare").value;
  const options = COMPARED_STEPS.map((steps) => [JSON.stringify({ steps }), `${steps} ${steps === 1 ? "step" : "steps"}`]);
  for (const [name, specifications] of Object.entries(models)) {
    if (name === model) continue;
    const { default: steps } = specifications.find((each) => each.name === "steps");
    options.push([JSON.stringify({ model: name, steps, sampler: null, loras: {} }), `${name}, ${steps} steps`]);
  }
  $("compare").replaceChildren(new Option("nothing", ""), ...options.map(([value, text]) => new Option(text, value)));
  $("compare").value = options.some(([value]) => value === chosen) ? chosen : "";
  if ($("compare").value !== chosen) compare();
}

function compared() {
  const wanted = { ...JSON.parse($("compare").value), previews: false, refine_steps: null };
  const guidance = models[wanted.model]?.find((each) => each.name === "guidance_scale");
  if (guidance) {
    wanted.guidance_scale = Math.min(guidance.maximum, Math.max(guidance.minimum, controls.values.guidance_scale));
  }
  return wanted;
}

$("compare").addEventListener("change", compare);
function compare() {
  other?.close();
  other = null;
  $("compare-pane").hidden = !$("compare").value;
  if (!$("compare").value) return;
  other = new Live(token);
  other.addEventListener("hello", () => { other.set({ ...state(), ...compared() }); if (source !== "words") sendFrame(true); });
  other.addEventListener("picture", async ({ detail }) => {
    await draw($("compare-output"), detail.blob);
    $("compare-caption").textContent = `${detail.steps} ${detail.steps === 1 ? "step" : "steps"} · ${Math.round(detail.worked)} ms`;
  });
}

// ---- keeping and sharing

function rest() {
  clearTimeout(resting);
  resting = setTimeout(() => { if (painted && prompt && source === "words") keep(); }, REST);
}

function keep() {
  history.add($("output"), { ...state(), seed: painted.seed, steps: painted.steps });
}
$("keep").addEventListener("click", () => { if (painted) { keep(); toast("Kept"); } });
history.addEventListener("recall", ({ detail }) => {
  $("prompt").value = detail.prompt;
  if (detail.model in models && detail.model !== model) build(detail.model, detail);
  else controls.put(detail);
  change({ ...detail });
});

$("download").addEventListener("click", download);
async function download() {
  if (!painted) return;
  const { prompt: words, negative_prompt: negative, width, height, strength, guidance_scale: guidance } = state();
  const fields = { prompt: words, model, seed: painted.seed, steps: painted.steps, guidance_scale: guidance, size: `${width}x${height}` };
  if (negative) fields.negative_prompt = negative;
  if (controls.values.loras) fields.loras = controls.values.loras;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let answer;
  if (source === "words") {
    answer = await fetch("/v1/images/generations", { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(fields) });
  } else {
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...fields, strength })) {
      form.append(name, name === "loras" ? JSON.stringify(value) : value);
    }
    form.append("image", new Blob([await jpeg(source === "draw" ? drawing.canvas : $("video"), width, height)], { type: "image/jpeg" }), "input.jpg");
    answer = await fetch("/v1/images/edits", { method: "POST", headers, body: form });
  }
  const told = await answer.json();
  if (!answer.ok) { advise(told.error.message, true); return; }
  const link = document.createElement("a");
  link.href = `data:image/png;base64,${told.data[0].b64_json}`;
  link.download = `${(words || "picture").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${painted.seed}.png`;
  link.click();
}

$("share").addEventListener("click", () => copy(location.href.replace(/[?&]token=[^&#]*/, ""), "Link copied"));
async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    advise("The browser does not let this page copy; select the text instead.", true);
  }
}

$("code-open").addEventListener("click", () => {
  $("snippets").replaceChildren(...snippets({ ...state(), seed: painted?.seed ?? controls.values.seed }, source !== "words").map(([title, text]) => {
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
});
$("help-open").addEventListener("click", () => $("help").showModal());

// ---- the address: the state travels in it, the token does not

function takeToken() {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given) {
    sessionStorage.setItem("fewstep.token", given);
    url.searchParams.delete("token");
    window.history.replaceState(null, "", url);
  }
  return sessionStorage.getItem("fewstep.token");
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const name of IN_ADDRESS) {
    if (!given.has(name)) continue;
    const value = NUMBERS.has(name) ? Number(given.get(name)) : given.get(name);
    if (!Number.isNaN(value)) found[name] = value;
  }
  return found;
}

let addressTimer;
function remember() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(state())) {
      if (IN_ADDRESS.includes(name) && value !== "" && value !== null && value !== undefined) kept.set(name, value);
    }
    window.history.replaceState(null, "", `${location.pathname}${location.search}#${kept}`);
    document.title = prompt ? `${prompt} · fewstep live` : "fewstep live";
  }, 300);
}

// ---- keys

const KEYS = {
  r: () => change({ seed: controls.shuffle() }), s: download, k: () => $("keep").click(),
  w: () => choose("words"), d: () => choose("draw"), c: () => choose("camera"),
  b: () => useTool("brush"), e: () => useTool("eraser"), m: () => useTool("mask"),
  "[": () => nudgeBrush(-6), "]": () => nudgeBrush(6),
  "/": () => $("prompt").focus(), "?": () => $("help").showModal(),
};

function nudgeBrush(by) {
  $("brush-size").value = Number($("brush-size").value) + by;
  $("brush-size").dispatchEvent(new Event("input"));
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("textarea, select, input:not([type=range], [type=checkbox], [type=color])");
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (document.querySelector("dialog[open]")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !typing) {
    event.preventDefault();
    if (event.shiftKey) drawing.redo(); else drawing.undo();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") { change({ seed: controls.shuffle() }); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-8]$/.test(event.key)) {
    controls.put({ steps: Number(event.key) });
    change({ steps: Number(event.key) });
    return;
  }
  const act = KEYS[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});

$("prompt").focus();
