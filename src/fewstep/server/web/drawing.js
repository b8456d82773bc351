// The canvas: brush and eraser, undo and redo, pictures dropped and pasted on it.

const DEPTH = 40;

export class Drawing extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.tool = "brush";
    this.colour = "#f4b400";
    this.size = 36;
    this.past = [];
    this.future = [];
    this.#fill();
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.#up());
  }

  get empty() { return this.past.length === 0; }

  #fill() {
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #remember() {
    this.past.push(this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.past.length > DEPTH) this.past.shift();
    this.future = [];
  }

  #place({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(clientX - box.left) * scale, (clientY - box.top) * scale];
  }

  #down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#remember();
    this.last = this.#place(event);
    this.#line(this.last, this.last, event);
  }

  #move(event) {
    if (!this.last) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const next = this.#place(each);
      this.#line(this.last, next, each);
      this.last = next;
    }
  }

  #up() { this.last = null; }

  #line([x0, y0], [x1, y1], event) {
    const pressure = event.pointerType === "pen" && event.pressure ? 0.4 + event.pressure : 1;
    Object.assign(this.context, {
      lineWidth: this.size * pressure, lineCap: "round", lineJoin: "round",
      strokeStyle: this.tool === "eraser" ? "#fff" : this.colour,
    });
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.lineTo(x1, y1 + 0.01);
    this.context.stroke();
    this.#changed();
  }

  undo() { this.#swap(this.past, this.future); }
  redo() { this.#swap(this.future, this.past); }

  #swap(from, to) {
    if (!from.length) return;
    to.push(this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    this.context.putImageData(from.pop(), 0, 0);
    this.#changed();
  }

  clear() {
    this.#remember();
    this.#fill();
    this.#changed();
  }

  // Any picture, scaled to cover.
  async put(source) {
    const picture = source instanceof Blob ? await createImageBitmap(source) : source;
    const { width, height } = this.canvas;
    const scale = Math.max(width / picture.width, height / picture.height);
    this.#remember();
    this.#fill();
    this.context.drawImage(
      picture, (width - picture.width * scale) / 2, (height - picture.height * scale) / 2,
      picture.width * scale, picture.height * scale,
    );
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
