// Pictures to start from on their way to the server: of what has changed the newest, as often as it can be used.

import { jpeg } from "./capture.js";

const OFTEN = 16; // ms between two frames at least
const SELDOM = 500;

export class Frames {
  // `connections()` are where frames go, the first one sets the pace; `size()` is the size that the model paints.
  constructor(sources, connections, size) {
    Object.assign(this, { sources, connections, size, sentAt: 0, timer: null, worked: OFTEN, sending: false });
    this.dirty = { picture: false, mask: false };
  }

  // Everything anew, for a server that has nothing yet.
  all() {
    this.dirty = { picture: true, mask: this.sources.drawing.masked };
    this.offer();
  }

  // Something has changed. While a picture is in the making the newest frame waits at the server, so that the network
  // never does; more than twice in a picture's time would only be thrown away.
  offer(changes = {}) {
    Object.assign(this.dirty, changes);
    const [live] = this.connections();
    if (this.timer !== null || this.sending || !live?.open || !this.sources.ready) return;
    if (!this.dirty.picture && !this.dirty.mask) return;
    const pause = Math.min(SELDOM, Math.max(OFTEN, this.worked / 2)) - (performance.now() - this.sentAt);
    if (pause > 0 || live.clogged) {
      this.timer = setTimeout(() => { this.timer = null; this.offer(); }, Math.max(pause, OFTEN));
    } else this.#send();
  }

  async #send() {
    const { picture, mask } = this.dirty;
    const { canvas, drawing } = this.sources;
    const { width, height } = this.size();
    this.dirty = { picture: false, mask: false };
    this.sentAt = performance.now();
    this.sending = true;
    const frame = picture ? await jpeg(canvas, width, height) : null;
    const marks = mask && this.sources.masked ? await jpeg(drawing.maskPicture(), width, height) : null;
    this.sending = false;
    for (const each of this.connections()) {
      if (frame) each.frame(frame, { since: this.sentAt });
      if (marks) each.frame(marks, { mask: true, since: this.sentAt });
      else if (mask) each.set({}, { mask: null });
    }
    this.offer();
  }
}
