// The state travels in the address, so that it can be shared and survives a reload; the token does not.

const TEXTS = ["model", "prompt", "negative_prompt", "sampler", "precision", "decoder", "source", "drawing", "mask"];
const NUMBERS = [
  "seed", "steps", "guidance_scale", "strength", "width", "height", "variation", "variation_seed", "upscale",
  "refine_strength", "refine_steps",
];
const WEIGHTS = ["loras", "control_scales"];
const NAMES = [...TEXTS, ...NUMBERS, ...WEIGHTS, "timesteps", "tile"];
const CALM = 300; // ms without a change before the address follows
const LONGEST = 16_000; // characters of a drawing that an address carries: longer ones are cut off on their way

export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const name of NAMES) if (given.has(name)) found[name] = parsed(name, given.get(name));
  return Object.fromEntries(Object.entries(found).filter(([, value]) => !Number.isNaN(value)));
}

function parsed(name, text) {
  if (NUMBERS.includes(name)) return Number(text);
  if (WEIGHTS.includes(name)) return weights(text);
  if (name === "timesteps") return text.split(",").map(Number).filter(Number.isInteger);
  return name === "tile" ? text === "true" : text;
}

// "ink:0.5,chalk:1"
function weights(text) {
  const pairs = text.split(",").map((each) => [each.slice(0, each.lastIndexOf(":")), Number(each.slice(each.lastIndexOf(":") + 1))]);
  return Object.fromEntries(pairs.filter(([name, weight]) => name && Number.isFinite(weight)));
}

// Whether the drawing of this state is small enough for an address.
export const travels = (state) => (state.drawing ?? "").length + (state.mask ?? "").length <= LONGEST;

export function addressOf(state) {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(travels(state) ? state : { ...state, source: null, drawing: null, mask: null })) {
    if (!NAMES.includes(name) || value === "" || value === null || value === undefined) continue;
    const text = WEIGHTS.includes(name) ? Object.entries(value).map(([each, weight]) => `${each}:${weight}`).join(",") : String(value);
    if (text !== "") kept.set(name, text);
  }
  return `${location.pathname}${location.search}#${kept}`;
}

let timer;
// `state()` is asked for once nothing changes any more.
export function writeAddress(state) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const now = state();
    window.history.replaceState(null, "", addressOf(now));
    document.title = now.prompt ? `${now.prompt} · fewstep live` : "fewstep live";
  }, CALM);
}
