// The settings, built from what the server says its model can be asked for.

const TITLES = {
  negative_prompt: "Not in the picture", steps: "Steps", guidance_scale: "Guidance", strength: "Strength",
  model: "Model", seed: "Seed", width: "Width", height: "Height", sampler: "Sampler",
};
const HINTS = {
  steps: "More steps: finer, slower.",
  guidance_scale: "How closely the words are followed.",
  strength: "How freely the picture may depart from yours.",
  loras: "How much of this adapter.",
};

export class Controls extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.inputs = new Map();
    this.values = {};
    this.specifications = new Map();
    this.locked = true;
  }

  build(specifications, values) {
    this.root.replaceChildren();
    this.inputs.clear();
    this.specifications = new Map(specifications.map((each) => [each.name, each]));
    for (const each of specifications) {
      if (each.name === "prompt") continue;
      if (each.kind === "choice" && each.choices.length < 2) continue;
      this.values[each.name] = values[each.name] ?? each.default;
      if (each.kind === "weights") this.#weights(each);
      else this.root.append(this.#field(each));
    }
    this.#explain();
  }

  // One slider for each adapter; together they are one value, a weight by name.
  #weights(each) {
    this.values[each.name] = { ...each.default, ...this.values[each.name] };
    for (const name of Object.keys(each.default)) {
      const slider = { ...each, kind: "slider", name: `${each.name}.${name}`, title: name, of: each.name, key: name };
      this.values[slider.name] = this.values[each.name][name];
      this.root.append(this.#field(slider));
    }
  }

  #field(each) {
    const field = element("div", "field");
    const id = `control-${each.name}`;
    const title = element("label", "title", each.title ?? TITLES[each.name] ?? each.name);
    title.htmlFor = id;
    const value = this.values[each.name];
    const input = { slider: range, seed: number, number, text: area, choice }[each.kind](each, value);
    input.id = id;
    field.dataset.name = each.name;
    if (each.kind === "slider") title.append(element("output", "", String(value)));
    field.append(title);
    if (each.kind === "seed") field.append(this.#seedRow(input)); else field.append(input);
    const hint = element("small", "", HINTS[each.of ?? each.name] ?? "");
    hint.id = `${id}-hint`;
    input.setAttribute("aria-describedby", hint.id);
    field.append(hint);
    input.addEventListener(each.kind === "number" ? "change" : "input", () => this.#changed(each, input, title));
    this.inputs.set(each.name, { input, title, hint });
    return field;
  }

  #seedRow(input) {
    const row = element("div", "row");
    const lock = element("button", "icon");
    lock.type = "button";
    lock.innerHTML = '<svg><use href="web/icons.svg#lock"/></svg>';
    const show = () => {
      lock.setAttribute("aria-pressed", String(this.locked));
      lock.title = this.locked ? "The same seed every time" : "A new seed with every change";
      lock.setAttribute("aria-label", "Keep the seed");
    };
    lock.addEventListener("click", () => { this.locked = !this.locked; show(); });
    show();
    row.append(input, lock);
    return row;
  }

  #changed(each, input, title) {
    let value = input.value;
    if (each.kind === "slider" || each.kind === "seed" || each.kind === "number") {
      if (value === "" || !input.checkValidity()) { input.reportValidity(); return; }
      value = Number(value);
    }
    this.values[each.name] = value;
    const shown = title.querySelector("output");
    if (shown) shown.textContent = String(value);
    this.#explain();
    if (each.of) this.values[each.of] = { ...this.values[each.of], [each.key]: value };
    const name = each.of ?? each.name;
    this.dispatchEvent(new CustomEvent("change", { detail: { [name]: this.values[name] } }));
  }

  // Set from outside: a key, the history, the address.
  put(values) {
    const adapters = Object.entries(values.loras ?? {}).map(([name, weight]) => [`loras.${name}`, weight]);
    if (values.loras) this.values.loras = { ...this.values.loras, ...values.loras };
    for (const [name, value] of [...Object.entries(values), ...adapters]) {
      if (value === null || value === undefined || !this.inputs.has(name)) continue;
      const { input, title } = this.inputs.get(name);
      this.values[name] = value;
      input.value = value;
      const shown = title.querySelector("output");
      if (shown) shown.textContent = String(value);
    }
    this.#explain();
  }

  shuffle() {
    const seed = Math.floor(Math.random() * 2 ** 32);
    this.put({ seed });
    return seed;
  }

  show(name, shown) {
    const field = this.root.querySelector(`[data-name="${name}"]`);
    if (field) field.hidden = !shown;
  }

  // A negative prompt is nothing without guidance: say so where it is typed.
  #explain() {
    const negative = this.inputs.get("negative_prompt");
    if (!negative) return;
    const inside = !this.specifications.get("negative_prompt").has_effect;
    negative.hint.textContent = inside
      ? "No effect with this model: its guidance is inside the network."
      : this.values.guidance_scale <= 1 ? "No effect at guidance 1: raise it first." : "";
  }
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function bounded(each, value, type) {
  const input = element("input");
  Object.assign(input, { type, min: each.minimum, max: each.maximum, step: each.step ?? 1 });
  input.value = value;
  return input;
}

const range = (each, value) => bounded(each, value, "range");
const number = (each, value) => bounded(each, value, "number");

function area(each, value) {
  const input = element("textarea");
  Object.assign(input, { rows: 1, maxLength: 2000, value });
  return input;
}

function choice(each, value) {
  const input = element("select");
  for (const name of each.choices) input.append(new Option(name, name, false, name === value));
  return input;
}
