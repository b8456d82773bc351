// The state travels in the address, so that it can be shared and survives a reload; the token does not.

const NAMES = ["model", "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "strength", "width", "height", "sampler", "loras"];
const NUMBERS = new Set(["seed", "steps", "guidance_scale", "strength", "width", "height"]);
const CALM = 300; // ms without a change before the address follows

export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const name of NAMES) {
    if (!given.has(name)) continue;
    const value = name === "loras" ? weights(given.get(name)) : NUMBERS.has(name) ? Number(given.get(name)) : given.get(name);
    if (!Number.isNaN(value)) found[name] = value;
  }
  return found;
}

// "ink:0.5,chalk:1"
function weights(text) {
  const pairs = text.split(",").map((each) => [each.slice(0, each.lastIndexOf(":")), Number(each.slice(each.lastIndexOf(":") + 1))]);
  return Object.fromEntries(pairs.filter(([name, weight]) => name && Number.isFinite(weight)));
}

let timer;
export function writeAddress(state) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (!NAMES.includes(name) || value === "" || value === null || value === undefined) continue;
      const text = name === "loras" ? Object.entries(value).map(([each, weight]) => `${each}:${weight}`).join(",") : value;
      if (text !== "") kept.set(name, text);
    }
    window.history.replaceState(null, "", `${location.pathname}${location.search}#${kept}`);
    document.title = state.prompt ? `${state.prompt} · fewstep live` : "fewstep live";
  }, CALM);
}
