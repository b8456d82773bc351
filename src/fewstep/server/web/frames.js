// Pictures to start from on their way to the server: of what has changed the newest, as often as it can be used.

import { coded } from "./capture.js";

const OFTEN = 16; // ms between two frames at least
const SELDOM = 500;
const REMEMBERED = 16; // sendings, of which a picture may still come that is to be retold

export class Frames extends EventTarget {
  // Tells "sent" when the server has what is shown. `connections()` are where frames go, the first one sets the pace;
  // `size()` is the size that the model samples.
  constructor(sources, connections, size) {
    super();
    Object.assign(this, { sources, connections, size, sentAt: 0, timer: null, worked: OFTEN, sending: false });
    this.dirty = { picture: false, mask: false };
    this.log = []; // what was sent last, each with its id on the first connection
    this.forget();
  }

  // Of the words alone: nothing is there to start from.
  forget() { this.sent = { picture: null, mask: null }; }

  // What the picture of the request `id` started from.
  before(id) { return this.log.findLast((each) => each.id <= id) ?? this.sent; }

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
    const { drawing, films, masked, blank } = this.sources;
    const { width, height } = this.size();
    const wanted = { mask: this.dirty.mask, picture: this.dirty.picture || (masked && !this.sent.picture) };
    this.dirty = { picture: false, mask: false };
    this.sentAt = performance.now();
    if (blank) { // an empty canvas is nothing to start from, and no white picture
      for (const each of this.connections()) each.set({}, { image: null });
      this.forget();
    } else {
      this.sending = true;
      const picture = !wanted.picture ? null : films ? await coded(this.sources.canvas, width, height) : await drawing.picture(width, height);
      const mask = wanted.mask && masked ? await drawing.marked(width, height) : null;
      this.sending = false;
      const before = { picture: picture ?? this.sent.picture, mask: this.sent.mask };
      this.sent = { ...before, mask: wanted.mask ? mask : before.mask };
      for (const each of this.connections()) {
        if (picture) this.#note(each, before, each.frame(picture, { since: this.sentAt }));
        if (mask) this.#note(each, this.sent, each.frame(mask, { mask: true, since: this.sentAt }));
        else if (wanted.mask) each.set({}, { mask: null });
      }
    }
    this.dispatchEvent(new Event("sent"));
    this.offer();
  }

  #note(connection, sent, id) {
    if (connection !== this.connections()[0]) return;
    this.log.push({ ...sent, id });
    if (this.log.length > REMEMBERED) this.log.shift();
  }
}
