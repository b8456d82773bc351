// The same request to the same model in other steps, or to another model, shown beside.

import { show } from "./canvas.js";
import { Live } from "./live.js";

const $ = (id) => document.getElementById(id);
const STEPS = [1, 2, 4, 8];

export class Comparison extends EventTarget {
  // `wanted()` is what the page asks for, `token` lets it in.
  constructor(wanted, token) {
    super();
    this.wanted = wanted;
    this.token = token;
    this.live = null;
    this.models = {};
    $("compare").addEventListener("change", () => this.#choose());
  }

  // The same model in other numbers of steps, and every other model in its own.
  offer(models, model) {
    this.models = models;
    const chosen = $("compare").value;
    const options = STEPS.map((steps) => [JSON.stringify({ steps }), counted(steps)]);
    for (const [name, specifications] of Object.entries(models)) {
      if (name === model) continue;
      const { default: steps } = specifications.find((each) => each.name === "steps");
      options.push([JSON.stringify({ model: name, steps, sampler: null, loras: {}, control_scales: {} }), `${name}, ${counted(steps)}`]);
    }
    $("compare").replaceChildren(new Option("nothing", ""), ...options.map(([value, text]) => new Option(text, value)));
    $("compare").value = options.some(([value]) => value === chosen) ? chosen : "";
    if ($("compare").value !== chosen) this.#choose();
  }

  set(wanted) { this.live?.set({ ...wanted, ...this.#own() }); }

  // Whether another model makes the comparison.
  get elsewhere() { return "model" in JSON.parse($("compare").value || "{}"); }

  #own() {
    const wanted = { ...JSON.parse($("compare").value), timesteps: null, previews: false, rest_steps: null, budget_ms: null };
    const guidance = this.models[wanted.model]?.find((each) => each.name === "guidance_scale");
    if (guidance) {
      wanted.guidance_scale = Math.min(guidance.maximum, Math.max(guidance.minimum, this.wanted().guidance_scale));
    }
    return wanted;
  }

  #choose() {
    this.live?.close();
    this.live = null;
    $("compare-pane").hidden = !$("compare").value;
    $("compare-caption").textContent = ""; // of what was compared before
    if (!$("compare").value) return;
    this.live = new Live(this.token);
    this.live.addEventListener("hello", () => {
      this.set(this.wanted());
      this.dispatchEvent(new Event("ready"));
    });
    this.live.addEventListener("picture", async ({ detail }) => {
      await show($("compare-output"), detail.blob);
      $("compare-empty").hidden = true;
      $("compare-caption").textContent = `${counted(detail.steps)} · ${Math.round(detail.worked)} ms`;
    });
    this.live.addEventListener("error", ({ detail }) => { $("compare-caption").textContent = detail.message; });
  }
}

export const counted = (steps) => `${steps} ${steps === 1 ? "step" : "steps"}`;
