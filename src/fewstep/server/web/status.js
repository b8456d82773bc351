// What the page says about itself: the state of the connection, the speed, advice, short notes.

const $ = (id) => document.getElementById(id);
const STATES = { connecting: "connecting", live: "live", generating: "generating", lost: "reconnecting", full: "server is full" };
const ADVICE_FOR = 8000; // ms

export function setState(name, { reason = "", position = 0 } = {}) {
  $("state").dataset.state = name;
  $("state").textContent = position > 1 ? `number ${position} in line` : STATES[name];
  $("state").title = reason;
  if (reason) advise(reason, true);
}

let adviceTimer;
export function advise(text, bad = false) {
  $("advice").textContent = text;
  $("advice").dataset.bad = String(bad);
  clearTimeout(adviceTimer);
  adviceTimer = setTimeout(() => { $("advice").textContent = ""; }, ADVICE_FOR);
}

let toastTimer;
export function toast(text) {
  $("toast").textContent = text;
  $("toast").dataset.shown = "true";
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").dataset.shown = "false"; }, 1800);
}

// Pictures that were shown in the last second, and the time from a change to its picture on this screen.
export class Meter {
  constructor() {
    this.frames = [];
    setInterval(() => this.#show(), 500);
  }

  shown(sentAt) {
    const now = performance.now();
    this.frames.push(now);
    this.#show();
    if (sentAt) requestAnimationFrame(() => { $("latency").textContent = Math.round(performance.now() - sentAt); });
  }

  #show() {
    const now = performance.now();
    this.frames = this.frames.filter((at) => now - at < 1000);
    $("rate").hidden = this.frames.length < 2; // a single picture has no rate
    $("fps").textContent = this.frames.length;
  }
}
