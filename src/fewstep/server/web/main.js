// The page: one state, shown in controls and address, sent to the server; what comes back is shown and measured.

import { addressOf, readAddress, travels, writeAddress } from "./address.js";
import { fromText, toText } from "./bytes.js";
import { show } from "./canvas.js";
import { Comparison, counted } from "./compare.js";
import { Controls } from "./controls.js";
import { holed } from "./drawing.js";
import { takePictures } from "./dropping.js";
import { Frames } from "./frames.js";
import { History } from "./history.js";
import { copy, save, showSnippets } from "./keeping.js";
import { listenToKeys } from "./keys.js";
import { Live } from "./live.js";
import { Sources } from "./sources.js";
import { Meter, advise, setState, toast } from "./status.js";
import { takeToken } from "./token.js";
import { Words } from "./words.js";

const $ = (id) => document.getElementById(id);
const REST = 1200; // ms without a change before a picture enters the history
const SIMILAR = 0.02; // mean difference of two camera frames that are the same to the eye
const SMALL = 256 * 256; // pixels of a picture that travels without loss; larger ones and films as JPEG
const PATIENCE = 60_000; // ms that a download waits for its picture

const token = takeToken();
const live = new Live(token);
const controls = new Controls($("controls"));
const sources = new Sources();
const words = new Words($("prompt"), $("ideas"));
const history = new History($("history"), $("history-clear"));
const comparison = new Comparison(everything, token);
const frames = new Frames(sources, () => [live, comparison.live].filter(Boolean), () => controls.values);
const meter = new Meter();
const steering = new Map(); // what ControlNets read, by their places
let models = {}; // the controls of each
let model = ""; // the one that samples
let newest = null; // the newest picture's facts, and its file
let skipped = 0; // frames that the server found to be the same
let resting = null;

// ---- what goes out

// What the person chose, with the drawing: all that an address or the history must know.
function state() {
  const { picture, mask } = frames.sent;
  const drawn = sources.name === "draw" && picture
    ? { source: "draw", drawing: toText(picture), mask: mask && toText(mask) } : {};
  return { ...controls.chosen, model, prompt: words.text, ...drawn };
}

// What the server is sent: everything, so that it has no state of its own.
function everything() {
  const named = [...controls.specifications.keys()].filter((name) => name in controls.values);
  const values = Object.fromEntries(named.map((name) => [name, controls.values[name]]));
  const { width, height, upscale, timesteps, steps } = values;
  const refine = $("refine").checked;
  const wanted = {
    loras: {}, control_scales: {}, sampler: null, ...values, prompt: words.text,
    format: !sources.films && width * height * upscale ** 2 <= SMALL ? "png" : "jpeg",
    previews: $("previews").checked, rest_steps: refine ? steps : null, budget_ms: Number($("budget").value) || null,
    skip_similar: $("similar").checked ? SIMILAR : 0,
  };
  if (timesteps) return { ...wanted, steps: null, refine_steps: null, rest_steps: null, budget_ms: null };
  return refine ? { ...wanted, steps: 1 } : wanted;
}

function tell() {
  live.set(everything());
  comparison.set(everything());
  if (live.open) setState("generating");
  writeAddress(state);
  rest();
}

// Something was changed by hand: with the seed unlocked it is another one each time.
function change() {
  if (!controls.locked) controls.shuffle();
  tell();
}

function another() {
  controls.shuffle();
  tell();
}

// A mask means that what lies under it is to go: its strength is one of its own, and begins higher.
const strengths = { plain: null, masked: null };
let masking = false;
function followMask() {
  if (sources.masked === masking) return;
  const { default: plain, masked_default: masked } = controls.specifications.get("strength") ?? {};
  strengths[masking ? "masked" : "plain"] = controls.values.strength;
  masking = sources.masked;
  controls.put({ strength: masking ? strengths.masked ?? masked : strengths.plain ?? plain });
  live.set(everything());
  comparison.set(everything());
}

sources.addEventListener("change", ({ detail }) => {
  followMask();
  frames.offer(detail);
  if (live.open && !sources.films) setState("generating");
  rest();
});
sources.addEventListener("choose", ({ detail: { name } }) => {
  controls.show("strength", name !== "words");
  $("similar").closest("label").hidden = !sources.films;
  followMask();
  live.set(everything());
  const forgotten = { words: { image: null }, draw: {} }[name] ?? { mask: null };
  if (name !== "draw") for (const each of [live, comparison.live]) each?.set({}, forgotten);
  if (name === "words") { frames.forget(); setState("generating"); writeAddress(state); }
  frames.all();
});
frames.addEventListener("sent", () => { if (!sources.films) writeAddress(state); });
comparison.addEventListener("ready", () => { frames.all(); steer(comparison.live); });
controls.addEventListener("picture", async ({ detail: { index, file } }) => {
  steering.set(index, await file.arrayBuffer());
  for (const each of [live, comparison.live]) steer(each);
});

// What ControlNets read, to a connection that samples with this model.
function steer(connection) {
  if (!connection || (connection !== live && comparison.elsewhere)) return;
  for (const [index, bytes] of steering) connection.frame(bytes, { control: index });
}

// ---- what comes back

live.addEventListener("hello", async ({ detail }) => {
  models = detail.models;
  if (!controls.inputs.size) { // the first time; afterwards the page knows better than any server
    const wanted = { ...detail.parameters, ...readAddress() };
    build(wanted.model in models ? wanted.model : detail.model, wanted);
    words.begin(wanted.prompt || (location.hash.length > 1 ? "" : null));
    await draw(wanted);
  } else if (!(model in models)) build(detail.model, controls.values);
  live.set(everything());
  steer(live);
  frames.all();
});

function build(name, wanted) {
  if (name !== model) steering.clear();
  model = name;
  controls.build(models[model], { ...wanted, model });
  controls.show("strength", sources.name !== "words");
  $("prompt").maxLength = controls.specifications.get("prompt").maximum_length;
  $("model").textContent = model;
  size();
  comparison.offer(models, model);
}

// All canvases take the shape of the picture.
function size() {
  const { width, height } = controls.values;
  for (const id of ["output", "compare-output", "video"]) $(id).style.aspectRatio = `${width} / ${height}`;
  $("panes").style.setProperty("--shape", width / height);
  sources.drawing.fit(width, height);
  frames.all();
}

live.addEventListener("picture", async ({ detail }) => {
  await show($("output"), detail.blob);
  $("empty").hidden = true;
  meter.shown(detail.kind === "picture" ? detail.sentAt : null);
  if (detail.kind === "preview") return;
  newest = detail;
  frames.worked = detail.worked;
  $("caption").textContent = `${counted(detail.steps)} · seed ${detail.seed} · ${Math.round(detail.worked)} ms`;
  $("output").setAttribute("aria-label", `The picture: ${words.text || "no words"}`);
  setState(live.busy && !sources.films ? "generating" : "live");
});
live.addEventListener("stats", ({ detail }) => {
  if (detail.skipped > skipped) live.forget();
  skipped = detail.skipped;
});
live.addEventListener("state", ({ detail }) => setState(detail.state, detail));
live.addEventListener("advice", ({ detail }) => advise(detail.messages.join(" ")));
live.addEventListener("error", ({ detail }) => { setState("live", { reason: detail.message }); });
live.addEventListener("queued", ({ detail }) => setState("generating", detail));

// ---- the words and the settings

words.addEventListener("change", change);
$("prompt-form").addEventListener("submit", (event) => event.preventDefault());
$("shuffle").addEventListener("click", another);

controls.addEventListener("change", ({ detail }) => {
  if ("model" in detail) { // what the new one can be asked for; what both know the same way stays
    const { width, height, seed, negative_prompt } = controls.values;
    build(detail.model, { width, height, seed, negative_prompt });
  }
  if ("seed" in detail) tell(); else change();
  if ("width" in detail || "height" in detail) size();
});
for (const id of ["previews", "refine", "budget", "similar"]) $(id).addEventListener("change", tell);

// ---- keeping and sharing

function rest() {
  clearTimeout(resting);
  resting = setTimeout(() => {
    if (live.busy) rest(); // what is shown is still the picture before
    else if (newest && words.text && sources.name === "words") keep();
  }, REST);
}

function keep() {
  history.add($("output"), { ...state(), seed: newest.seed, steps: newest.steps });
}

// All as it was, a drawing too: what is not named is as the model has it by default.
async function restore(wanted) {
  words.put(wanted.prompt);
  if (wanted.model in models && wanted.model !== model) build(wanted.model, wanted);
  else controls.put({ ...controls.defaults, ...wanted, model });
  size();
  if (sources.name !== "words" && !wanted.drawing) await sources.choose("words");
  await draw(wanted);
  tell();
}

async function draw({ source, drawing, mask, strength }) {
  if (source !== "draw" || !drawing) return;
  try {
    await sources.load(fromText(drawing), mask ? fromText(mask) : null);
  } catch {
    advise("The drawing of this link cannot be read; it was cut off on its way.", true);
    return;
  }
  strengths[masking ? "plain" : "masked"] = null; // the address has one alone
  if (strength) controls.put({ strength });
}
history.addEventListener("recall", ({ detail }) => restore(detail));
takePictures({ sources, token, restore });

// The picture that is shown, without loss, its parameters inside.
async function download() {
  if (!newest) return;
  const { blob, seed } = newest.lossless ? newest : await lossless(newest.kind);
  save(blob, `${(words.text || "picture").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${seed}.png`);
}

// The newest picture of that kind once more, without loss.
function lossless(kind) {
  return new Promise((done, failed) => {
    const late = setTimeout(() => failed(new Error("The server has not generated it in time.")), PATIENCE);
    const take = ({ detail }) => {
      if (!detail.lossless || detail.kind !== kind) return;
      clearTimeout(late);
      live.removeEventListener("picture", take);
      live.set({ format: "jpeg" });
      done(detail);
    };
    live.addEventListener("picture", take);
    live.set({ format: "png" });
  });
}

function share() {
  const parameters = state();
  const link = new URL(addressOf(parameters), location.href).href;
  if (sources.films) copy(link, `Link copied, without the picture of the ${sources.name}`);
  else if (travels(parameters)) copy(link, parameters.drawing ? "Link copied, with the drawing" : "Link copied");
  else copy(link, "Link copied, without the drawing: it is too large for a link");
}

async function tellHow() {
  const names = { image: sources.films ? "input.jpg" : "input.png", mask: "mask.png", hole: "hole.png" };
  try {
    const recipe = await live.describe({ image: names.image, mask: names.mask });
    const { picture, mask } = frames.before(recipe.picture);
    const files = {};
    if (recipe.record.source) files[names.image] = new Blob([picture]);
    if (recipe.record.mask) {
      files[names.mask] = new Blob([mask]);
      files[names.hole] = await holed(mask);
    }
    showSnippets(recipe, files, names, token);
  } catch (error) {
    advise(error.message, true);
  }
}

$("keep").addEventListener("click", () => { if (newest) { keep(); toast("Kept"); } });
$("download").addEventListener("click", () => download().catch((error) => advise(error.message, true)));
$("share").addEventListener("click", share);
$("code-open").addEventListener("click", tellHow);
$("help-open").addEventListener("click", () => $("help").showModal());
$("use-as-input").addEventListener("click", () => sources.put($("output")));

listenToKeys({
  acts: {
    r: another, s: () => $("download").click(), k: () => $("keep").click(),
    w: () => sources.choose("words"), d: () => sources.choose("draw"), c: () => sources.choose("camera"),
    b: () => sources.useTool("brush"), e: () => sources.useTool("eraser"), m: () => sources.useTool("mask"),
    "[": () => sources.nudgeBrush(-6), "]": () => sources.nudgeBrush(6),
    "/": () => $("prompt").focus(), "?": () => $("help").showModal(),
  },
  undo: (redo) => redo ? sources.drawing.redo() : sources.drawing.undo(),
  steps: (count) => { controls.put({ steps: count }); change(); },
  another,
});

$("prompt").focus();
