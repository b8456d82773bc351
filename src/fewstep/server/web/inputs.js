// What is typed or moved for each kind of control, and its value.

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function bounded(each, value, type) {
  const input = element("input");
  Object.assign(input, { type, min: each.minimum, max: each.maximum, step: each.step ?? 1 });
  input.value = value ?? "";
  return input;
}

export const INPUTS = {
  slider: (each, value) => bounded(each, value, "range"),
  seed: (each, value) => bounded(each, value, "number"),
  number: (each, value) => bounded(each, value, "number"),
  text: (each, value) => Object.assign(element("textarea"), { rows: 1, maxLength: each.maximum_length, value }),
  switch: (each, value) => Object.assign(element("input"), { type: "checkbox", checked: value }),
  times: (each, value) => Object.assign(element("input"), { type: "text", pattern: "[0-9, ]*", value: (value ?? []).join(", ") }),
  choice(each, value) {
    const input = element("select");
    for (const name of each.choices) input.append(new Option(name, name, false, name === value));
    return input;
  },
};

// The value of a control; undefined where what is in it is none.
export function valueOf(each, input) {
  if (each.kind === "switch") return input.checked;
  if (each.kind === "text" || each.kind === "choice") return input.value;
  if (!input.checkValidity()) return undefined;
  if (input.value.trim() === "") return each.default === null ? null : undefined;
  return each.kind === "times" ? input.value.split(/[ ,]+/).filter(Boolean).map(Number) : Number(input.value);
}
