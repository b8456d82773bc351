// The page: one state, shown in controls and address, sent to the server; what comes back is shown and measured.

import { readAddress, writeAddress } from "./address.js";
import { show } from "./canvas.js";
import { Comparison, counted } from "./compare.js";
import { Controls } from "./controls.js";
import { takePictures } from "./dropping.js";
import { Frames } from "./frames.js";
import { History } from "./history.js";
import { copy, download, showSnippets } from "./keeping.js";
import { listenToKeys } from "./keys.js";
import { Live } from "./live.js";
import { Sources } from "./sources.js";
import { Meter, advise, setState, toast } from "./status.js";
import { takeToken } from "./token.js";

const $ = (id) => document.getElementById(id);
const IDEAS = ["a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot", "a red car"];
const REST = 1200; // ms without a change before a picture enters the history
const SIMILAR = 0.02; // mean difference of two camera frames that are the same to the eye

const token = takeToken();
const live = new Live(token);
const controls = new Controls($("controls"));
const sources = new Sources();
const history = new History($("history"), $("history-clear"));
const comparison = new Comparison(state, token);
const frames = new Frames(sources, () => [live, comparison.live].filter(Boolean), () => controls.values);
const meter = new Meter();
let models = {}; // the controls of each
let model = ""; // the one that paints
let prompt = "";
let painted = null; // the newest picture's facts
let skipped = 0; // frames that the server found to be the same
let resting = null;

// ---- what goes out

function state() {
  const wanted = { prompt };
  for (const name of controls.specifications.keys()) if (name in controls.values) wanted[name] = controls.values[name];
  return wanted;
}

function everything() {
  const refine = $("refine").checked;
  const wanted = {
    ...state(), previews: $("previews").checked, rest_steps: refine ? controls.values.steps : null,
    budget_ms: Number($("budget").value) || null, skip_similar: $("similar").checked ? SIMILAR : 0,
  };
  return refine ? { ...wanted, steps: 1 } : wanted;
}

function change(changes) {
  if (!controls.locked && !("seed" in changes)) changes.seed = controls.shuffle();
  if ("prompt" in changes) prompt = changes.prompt;
  live.set(changes);
  comparison.set(changes);
  if (live.open) setState("painting");
  writeAddress(state());
  rest();
}

sources.addEventListener("change", ({ detail }) => {
  frames.offer(detail);
  if (live.open && !sources.films) setState("painting");
  rest();
});
sources.addEventListener("choose", ({ detail: { name } }) => {
  controls.show("strength", name !== "words");
  $("similar").closest("label").hidden = !sources.films;
  const forgotten = { words: { image: null }, draw: {} }[name] ?? { mask: null };
  if (name !== "draw") for (const each of [live, comparison.live]) each?.set({}, forgotten);
  if (name === "words") setState("painting");
  frames.all();
});
comparison.addEventListener("ready", () => frames.all());

// ---- what comes back

live.addEventListener("hello", ({ detail }) => {
  models = detail.models;
  if (!controls.inputs.size) { // the first time; afterwards the page knows better than any server
    const wanted = { ...detail.parameters, ...readAddress() };
    build(wanted.model in models ? wanted.model : detail.model, wanted);
    prompt = wanted.prompt || (location.hash.length > 1 ? "" : IDEAS[0]);
    $("prompt").value = prompt;
    $("prompt").select(); // the first letter takes its place
  } else if (!(model in models)) build(detail.model, { ...state(), model: detail.model });
  live.set(everything());
  frames.all();
});

function build(name, wanted) {
  model = name;
  controls.build(models[model], { ...wanted, model });
  controls.show("strength", sources.name !== "words");
  $("model").textContent = model;
  size();
  comparison.offer(models, model);
}

// All canvases take the shape of the picture.
function size() {
  const { width, height } = controls.values;
  for (const id of ["output", "compare-output", "video"]) $(id).style.aspectRatio = `${width} / ${height}`;
  sources.drawing.fit(width, height);
  frames.all();
}

live.addEventListener("picture", async ({ detail }) => {
  await show($("output"), detail.blob);
  $("empty").hidden = true;
  meter.shown(detail.kind === "picture" ? detail.sentAt : null);
  if (detail.kind === "preview") return;
  painted = detail;
  frames.worked = detail.worked;
  $("caption").textContent = `${counted(detail.steps)} · seed ${detail.seed} · ${Math.round(detail.worked)} ms`;
  $("output").setAttribute("aria-label", `The picture: ${prompt || "no words"}`);
  setState(live.busy && !sources.films ? "painting" : "live");
});
live.addEventListener("stats", ({ detail }) => {
  if (detail.skipped > skipped) live.forget();
  if (!live.busy) setState("live");
  skipped = detail.skipped;
});
live.addEventListener("state", ({ detail }) => setState(detail.state, detail));
live.addEventListener("advice", ({ detail }) => advise(detail.messages.join(" ")));
live.addEventListener("error", ({ detail }) => { setState("live", { reason: detail.message }); });
live.addEventListener("queued", ({ detail }) => setState("painting", detail));

// ---- the words and the settings

$("prompt").addEventListener("input", () => change({ prompt: $("prompt").value }));
$("prompt-form").addEventListener("submit", (event) => event.preventDefault());
$("shuffle").addEventListener("click", another);
function another() { change({ seed: controls.shuffle() }); }
for (const idea of IDEAS) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: idea });
  button.addEventListener("click", () => { $("prompt").value = idea; change({ prompt: idea }); });
  $("ideas").append(button);
}

controls.addEventListener("change", ({ detail }) => {
  if ("model" in detail) { // what the new one can be asked for; what both know the same way stays
    const { width, height, seed, negative_prompt } = controls.values;
    build(detail.model, { width, height, seed, negative_prompt });
    change({ sampler: null, loras: {}, ...everything(), seed });
  } else if ($("refine").checked && "steps" in detail) change({ rest_steps: detail.steps, steps: 1 });
  else change({ ...detail });
  if ("width" in detail || "height" in detail) size();
});
for (const id of ["previews", "refine", "budget", "similar"]) $(id).addEventListener("change", () => change(everything()));

// ---- keeping and sharing

function rest() {
  clearTimeout(resting);
  resting = setTimeout(() => {
    if (live.busy) rest(); // what is shown is still the picture before
    else if (painted && prompt && sources.name === "words") keep();
  }, REST);
}

function keep() {
  history.add($("output"), { ...state(), seed: painted.seed, steps: painted.steps });
}

function restore(wanted) {
  prompt = wanted.prompt;
  $("prompt").value = prompt;
  if (wanted.model in models && wanted.model !== model) build(wanted.model, wanted);
  else controls.put(wanted);
  change(everything());
}
history.addEventListener("recall", ({ detail }) => restore(detail));
takePictures({ sources, token, restore });

function save() {
  if (painted) download({ ...state(), seed: painted.seed, steps: painted.steps }, model, sources, token);
}
$("keep").addEventListener("click", () => { if (painted) { keep(); toast("Kept"); } });
$("download").addEventListener("click", save);
$("share").addEventListener("click", () => copy(location.href, "Link copied"));
$("code-open").addEventListener("click", () => showSnippets({ ...state(), seed: painted?.seed ?? controls.values.seed }, { over: sources.name !== "words", masked: sources.masked, token }));
$("help-open").addEventListener("click", () => $("help").showModal());
$("use-as-input").addEventListener("click", () => sources.put($("output")));

listenToKeys({
  acts: {
    r: another, s: save, k: () => $("keep").click(),
    w: () => sources.choose("words"), d: () => sources.choose("draw"), c: () => sources.choose("camera"),
    b: () => sources.useTool("brush"), e: () => sources.useTool("eraser"), m: () => sources.useTool("mask"),
    "[": () => sources.nudgeBrush(-6), "]": () => sources.nudgeBrush(6),
    "/": () => $("prompt").focus(), "?": () => $("help").showModal(),
  },
  undo: (again) => again ? sources.drawing.redo() : sources.drawing.undo(),
  steps: (count) => { controls.put({ steps: count }); change(everything()); },
  another,
});

$("prompt").focus();
