// The strip of kept pictures, each with all that made it; kept for the next visit too, as far as the browser lets us.

const LIMIT = 40;
const KEY = "fewstep.history";

export class History extends EventTarget {
  constructor(list, clearButton) {
    super();
    this.list = list;
    this.clearButton = clearButton;
    clearButton.addEventListener("click", () => this.clear());
    this.entries = [];
    try {
      this.entries = JSON.parse(localStorage.getItem(KEY) ?? "[]").slice(0, LIMIT);
    } catch { /* a damaged or forbidden storage is an empty one */ }
    this.#draw();
  }

  // `canvas` shows the picture, `state` made it.
  add(canvas, state) {
    const same = JSON.stringify(state);
    if (this.entries[0] && JSON.stringify(this.entries[0].state) === same) return;
    const thumbnail = document.createElement("canvas");
    thumbnail.width = thumbnail.height = 144;
    thumbnail.getContext("2d").drawImage(canvas, 0, 0, 144, 144);
    this.entries.unshift({ state, image: thumbnail.toDataURL("image/jpeg", 0.85) });
    this.entries.length = Math.min(this.entries.length, LIMIT);
    this.#store();
  }

  clear() {
    this.entries = [];
    this.#store();
  }

  #store() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.entries));
    } catch { /* full: it lives as long as the page */ }
    this.#draw();
  }

  #draw() {
    this.list.replaceChildren();
    if (!this.entries.length) {
      const none = document.createElement("li");
      none.className = "note";
      none.textContent = "Pictures that rest for a moment collect here.";
      this.list.append(none);
    }
    this.clearButton.hidden = !this.entries.length;
    for (const { state, image } of this.entries) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const picture = document.createElement("img");
      Object.assign(picture, { src: image, alt: "" });
      button.type = "button";
      button.title = `${state.prompt} · seed ${state.seed} · ${state.steps} steps`;
      button.setAttribute("aria-label", `Bring back: ${button.title}`);
      button.append(picture);
      button.addEventListener("click", () => this.dispatchEvent(new CustomEvent("recall", { detail: state })));
      item.append(button);
      this.list.append(item);
    }
  }
}
