// The prompt, and ideas for it. Words that the person did not write are chosen as a whole by a click, so that what is
// typed next takes their place; words of their own are clicked as ever.

const IDEAS = ["a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot", "a red car"];

export class Words extends EventTarget {
  // Tells "change" when there are other words.
  constructor(input, ideas) {
    super();
    this.input = input;
    this.foreign = false;
    input.addEventListener("input", () => { this.foreign = false; this.#changed(); });
    input.addEventListener("mousedown", (event) => this.#choose(event));
    for (const idea of IDEAS) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: idea });
      button.addEventListener("click", () => { this.put(idea); this.#changed(); });
      ideas.append(button);
    }
  }

  get text() { return this.input.value; }

  // Words that were not typed here.
  put(text) {
    this.input.value = text ?? "";
    this.foreign = true;
  }

  // The first words, an idea for null; the first letter takes their place.
  begin(text) {
    this.put(text ?? IDEAS[0]);
    this.input.select();
  }

  // The first click chooses everything, the next one a place in it, as in a browser's address bar. A browser would drop
  // the choice after the click: so what it does of itself is left out.
  #choose(event) {
    if (!this.foreign || event.button !== 0) return;
    this.foreign = false;
    event.preventDefault();
    this.input.focus();
    this.input.select();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
