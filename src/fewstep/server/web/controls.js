// The settings, built from what the server says its model can be asked for: ranges, titles and hints are the server's.

import { INPUTS, element, valueOf } from "./inputs.js";

export class Controls extends EventTarget {
  // Tells "change" with what has changed, "picture" with a file that a ControlNet is to read, and its place.
  constructor(root) {
    super();
    this.root = root;
    this.inputs = new Map();
    this.values = {};
    this.specifications = new Map();
    this.locked = true;
  }

  build(specifications, values) {
    const open = this.root.querySelector("details")?.open ?? false;
    this.root.replaceChildren();
    this.inputs.clear();
    this.values = {};
    this.specifications = new Map(specifications.map((each) => [each.name, each]));
    const more = element("details", "more");
    more.open = open;
    more.append(element("summary", "", "More"), element("div", "fields"));
    for (const each of specifications) {
      if (each.name === "prompt") continue;
      if (each.kind === "choice" && each.choices.length < 2) continue;
      this.values[each.name] = values[each.name] ?? each.default;
      const place = each.advanced ? more.lastChild : this.root;
      if (each.kind === "weights") this.#weights(each, place);
      else place.append(this.#field(each));
    }
    if (more.lastChild.childElementCount) this.root.append(more);
    this.#explain();
  }

  // One slider for each adapter; together they are one value, a weight by name.
  #weights(each, place) {
    this.values[each.name] = Object.fromEntries(
      Object.entries(each.default).map(([name, weight]) => [name, this.values[each.name][name] ?? weight]),
    );
    for (const [index, name] of Object.keys(each.default).entries()) {
      const slider = { ...each, kind: "slider", name: `${each.name}.${name}`, title: name, of: each.name, key: name, advanced: false };
      this.values[slider.name] = this.values[each.name][name];
      const field = this.#field(slider);
      if (each.pictures) field.append(this.#picture(name, index));
      place.append(field);
    }
  }

  #picture(name, index) {
    const file = Object.assign(element("input"), { type: "file", accept: "image/*" });
    file.setAttribute("aria-label", `The picture that ${name} reads`);
    file.addEventListener("change", () => {
      if (file.files[0]) this.dispatchEvent(new CustomEvent("picture", { detail: { index, file: file.files[0] } }));
    });
    return file;
  }

  #field(each) {
    const field = element("div", "field");
    const id = `control-${each.name}`;
    const title = element("label", "title", each.title || each.name);
    title.htmlFor = id;
    const value = this.values[each.name];
    const input = INPUTS[each.kind](each, value);
    input.id = id;
    field.dataset.name = each.name;
    if (each.kind === "slider") title.append(element("output", "", String(value)));
    field.append(title);
    if (each.kind === "seed") field.append(this.#seedRow(input)); else field.append(input);
    const hint = element("small", "", each.hint ?? "");
    hint.id = `${id}-hint`;
    input.setAttribute("aria-describedby", hint.id);
    field.append(hint);
    const settled = each.kind === "number" || each.kind === "times" || each.kind === "switch";
    input.addEventListener(settled ? "change" : "input", () => this.#changed(each, input));
    this.inputs.set(each.name, { each, input, title, hint, field });
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

  #changed(each, input) {
    const value = valueOf(each, input);
    if (value === undefined) { input.reportValidity(); return; }
    this.#keep(each.name, value);
    this.#explain();
    if (each.of) this.values[each.of] = { ...this.values[each.of], [each.key]: value };
    const name = each.of ?? each.name;
    this.dispatchEvent(new CustomEvent("change", { detail: { [name]: this.values[name] } }));
  }

  #keep(name, value) {
    this.values[name] = value;
    const shown = this.inputs.get(name).title.querySelector("output");
    if (shown) shown.textContent = String(value);
  }

  // Set from outside: a key, the history, the address. What is undefined stays.
  put(values) {
    const adapters = ["loras", "control_scales"].flatMap((name) => {
      if (!values[name] || !this.values[name]) return [];
      const known = Object.entries(values[name]).filter(([each]) => each in this.values[name]);
      this.values[name] = { ...this.values[name], ...Object.fromEntries(known) };
      return known.map(([each, weight]) => [`${name}.${each}`, weight]);
    });
    for (const [name, given] of [...Object.entries(values), ...adapters]) {
      if (given === undefined || !this.inputs.has(name)) continue;
      const { each, input } = this.inputs.get(name);
      const value = given ?? each.default;
      this.#keep(name, value);
      if (each.kind === "switch") input.checked = value;
      else input.value = Array.isArray(value) ? value.join(", ") : value ?? "";
    }
    this.#explain();
  }

  // All as the model's card says.
  get defaults() {
    return Object.fromEntries([...this.specifications.values()].map((each) => [each.name, each.default]));
  }

  // The values by name, without the advanced ones that are as ever.
  get chosen() {
    const shown = [...this.specifications.values()].filter(({ name, advanced, default: usual }) => name in this.values
      && !(advanced && (this.values[name] === usual || this.values[name] === "")));
    return Object.fromEntries(shown.map(({ name }) => [name, this.values[name]]));
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

  // What has no effect now is hidden, or, where it is typed, says so.
  #explain() {
    for (const { each, field } of this.inputs.values()) {
      if (each.needs) field.hidden = this.values[each.needs] === this.specifications.get(each.needs).default;
    }
    const negative = this.inputs.get("negative_prompt");
    if (!negative) return;
    const inside = !this.specifications.get("negative_prompt").has_effect;
    negative.hint.textContent = inside
      ? "No effect with this model: its guidance is inside the network."
      : this.values.guidance_scale <= 1 ? "No effect at guidance 1: raise it first." : "";
  }
}
