// The canvas: brush, eraser and mask, undo and redo, pictures dropped and pasted on it.

import { coded } from "./capture.js";

const DEPTH = 40;
const PNG = "image/png";
const SIDE = 512; // pixels of the longer one
const MARK = "#7c5cff"; // how the mask shows; the canvas over the drawing makes it translucent

export class Drawing extends EventTarget {
  constructor(canvas, mask) {
    super();
    this.canvas = canvas;
    this.mask = mask;
    this.masked = false;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.marks = mask.getContext("2d", { willReadFrequently: true });
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

  // Whether nothing is on it: white all over, whatever was done to it.
  get blank() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    return new Uint32Array(data.buffer).every((each) => each === 0xffffffff);
  }

  // To the shape of the picture, as large as before along the longer side; what was drawn is stretched with it.
  fit(width, height) {
    const scale = SIDE / Math.max(width, height);
    const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width === across && this.canvas.height === down) return;
    for (const context of [this.context, this.marks]) {
      const before = new OffscreenCanvas(context.canvas.width, context.canvas.height);
      before.getContext("2d").drawImage(context.canvas, 0, 0);
      Object.assign(context.canvas, { width: across, height: down });
      context.drawImage(before, 0, 0, across, down);
    }
    this.past = [];
    this.future = [];
    this.#changed({ picture: true, mask: this.masked });
  }

  #fill() {
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #snapshot() {
    const area = [0, 0, this.canvas.width, this.canvas.height];
    return { drawing: this.context.getImageData(...area), marks: this.marks.getImageData(...area), masked: this.masked };
  }

  #remember() {
    this.past.push(this.#snapshot());
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
    const marking = this.tool === "mask";
    const context = marking ? this.marks : this.context;
    Object.assign(context, {
      lineWidth: this.size * pressure, lineCap: "round", lineJoin: "round",
      strokeStyle: { brush: this.colour, eraser: "#fff", mask: MARK }[this.tool],
    });
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1 + 0.01);
    context.stroke();
    if (marking) this.masked = true;
    this.#changed(marking ? { mask: true } : { picture: true });
  }

  undo() { this.#swap(this.past, this.future); }
  redo() { this.#swap(this.future, this.past); }

  #swap(from, to) {
    if (!from.length) return;
    to.push(this.#snapshot());
    const { drawing, marks, masked } = from.pop();
    this.context.putImageData(drawing, 0, 0);
    this.marks.putImageData(marks, 0, 0);
    const moved = masked || this.masked;
    this.masked = masked;
    this.#changed({ picture: true, mask: moved });
  }

  // The drawing, or the mask while that is the tool.
  clear() {
    this.#remember();
    const marking = this.tool === "mask";
    if (marking) {
      this.marks.clearRect(0, 0, this.mask.width, this.mask.height);
      this.masked = false;
    } else this.#fill();
    this.#changed(marking ? { mask: true } : { picture: true });
  }

  // What is drawn as a PNG of this size: the very bytes that it came from, where it came from a link.
  async picture(width, height) {
    return this.#original(width, height)?.picture ?? coded(this.canvas, width, height, PNG);
  }

  // Likewise the mask: white where it is marked, black elsewhere.
  async marked(width, height) {
    return this.#original(width, height)?.mask ?? coded(this.#maskPicture(), width, height, PNG);
  }

  #original(width, height) {
    return this.original?.width === width && this.original.height === height ? this.original : null;
  }

  // A drawing and perhaps its mask, as `picture` and `marked` gave them.
  async load(picture, mask) {
    const shown = await createImageBitmap(new Blob([picture]));
    const marks = mask ? await createImageBitmap(new Blob([mask])) : null;
    const area = [0, 0, this.canvas.width, this.canvas.height];
    this.#remember();
    this.context.drawImage(shown, ...area);
    this.marks.clearRect(...area);
    this.masked = marks !== null;
    if (marks) this.#mark(marks, area);
    this.#changed({ picture: true, mask: true }, { picture, mask, width: shown.width, height: shown.height });
  }

  // The white of a mask as marks.
  #mark(mask, area) {
    this.marks.drawImage(mask, ...area);
    const pixels = this.marks.getImageData(...area);
    const colour = [1, 3, 5].map((start) => parseInt(MARK.slice(start, start + 2), 16));
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([...colour, pixels.data[i]], i);
    this.marks.putImageData(pixels, 0, 0);
  }

  #maskPicture() {
    const picture = new OffscreenCanvas(this.mask.width, this.mask.height);
    const context = picture.getContext("2d");
    context.drawImage(this.mask, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, picture.width, picture.height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, picture.width, picture.height);
    return picture;
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
    this.#changed({ picture: true });
  }

  #changed(detail, original = null) {
    this.original = original;
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
}

// A mask's file as OpenAI's API wants it: a PNG with a hole where the mask is white.
export async function holed(mask) {
  const shown = await createImageBitmap(new Blob([mask]));
  const picture = new OffscreenCanvas(shown.width, shown.height);
  const context = picture.getContext("2d");
  context.drawImage(shown, 0, 0);
  const pixels = context.getImageData(0, 0, shown.width, shown.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([0, 0, 0, 255 - pixels.data[i]], i);
  context.putImageData(pixels, 0, 0);
  return picture.convertToBlob({ type: PNG });
}
