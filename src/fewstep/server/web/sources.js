// What a picture starts from: words alone, a drawing, the camera or the screen; and the tools of the drawing.

import { Capture } from "./capture.js";
import { Drawing } from "./drawing.js";
import { advise } from "./status.js";

const $ = (id) => document.getElementById(id);

export class Sources extends EventTarget {
  // Tells "choose" when another source was chosen, "change" when what it shows has changed.
  constructor() {
    super();
    this.name = "words";
    this.drawing = new Drawing($("drawing"), $("mask"));
    this.capture = new Capture($("video"));
    this.capture.addEventListener("ended", () => { advise("The camera or screen was taken away."); this.choose("words"); });
    this.capture.addEventListener("frame", () => this.#changed({ picture: true }));
    this.drawing.addEventListener("change", ({ detail }) => {
      $("undo").disabled = !this.drawing.past.length;
      $("redo").disabled = !this.drawing.future.length;
      this.#changed(detail);
    });
    this.#listen();
  }

  get canvas() { return this.name === "draw" ? this.drawing.canvas : $("video"); }
  get masked() { return this.name === "draw" && this.drawing.masked; }
  get blank() { return this.name === "draw" && !this.drawing.masked && this.drawing.blank; }
  get films() { return this.name === "camera" || this.name === "screen"; }
  get ready() { return this.name === "draw" || (this.films && this.capture.running); }

  #changed(detail) { this.dispatchEvent(new CustomEvent("change", { detail })); }

  async choose(name) {
    const films = name === "camera" || name === "screen";
    const obstacle = films ? Capture.obstacle(name) : null;
    if (obstacle) { advise(obstacle, true); return; }
    const before = this.name;
    this.capture.stop();
    this.name = name;
    if (films) {
      try {
        await this.capture.start(name);
      } catch (error) {
        this.name = before === name ? "words" : before;
        advise(error.name === "NotAllowedError" ? `The browser was told not to lend the ${name}.` : `The ${name} cannot be opened: ${error.message}`, true);
      }
    }
    this.#show();
    this.dispatchEvent(new CustomEvent("choose", { detail: { name: this.name } }));
  }

  #show() {
    for (const button of $("sources").children) {
      const chosen = button.dataset.source === this.name;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    $("input-pane").hidden = this.name === "words";
    $("layers").hidden = $("tools").hidden = this.name !== "draw";
    $("video").hidden = !this.films;
    this.#hint();
  }

  #hint() { $("draw-hint").hidden = !this.blank; }

  // A drawing that travelled: its bytes, and those of its mask.
  async load(picture, mask) {
    await this.choose("draw");
    await this.drawing.load(picture, mask);
  }

  useTool(name) {
    this.drawing.tool = name;
    for (const each of document.querySelectorAll("[data-tool]")) each.setAttribute("aria-pressed", String(each.dataset.tool === name));
  }

  nudgeBrush(by) {
    $("brush-size").value = Number($("brush-size").value) + by;
    $("brush-size").dispatchEvent(new Event("input"));
  }

  // A picture onto the canvas.
  async put(picture) {
    await this.choose("draw");
    await this.drawing.put(picture);
  }

  #listen() {
    $("sources").addEventListener("click", ({ target }) => {
      const button = target.closest("[data-source]");
      if (button) this.choose(button.dataset.source);
    });
    $("sources").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const buttons = [...$("sources").children].filter((each) => !each.hidden);
      const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
      event.preventDefault();
    });
    if (!Capture.canShareScreen()) $("sources").querySelector("[data-source=screen]").hidden = true; // phones
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.useTool(button.dataset.tool));
    }
    $("colour").addEventListener("input", () => { this.drawing.colour = $("colour").value; this.useTool("brush"); });
    $("brush-size").addEventListener("input", () => { this.drawing.size = Number($("brush-size").value); });
    $("undo").addEventListener("click", () => this.drawing.undo());
    $("redo").addEventListener("click", () => this.drawing.redo());
    $("clear").addEventListener("click", () => this.drawing.clear());
    this.drawing.addEventListener("change", () => this.#hint());
  }
}
