// The connection: parameters and frames out, pictures and messages in. It comes back by itself.

const KINDS = ["picture", "preview", "refined"];
const FORMATS = ["image/jpeg", "image/webp", "image/png"];
const MAGIC = 0x314c5346; // "FSL1", little-endian
const HEADER = 40;
const RETRY = [250, 500, 1000, 2000, 5000];
const FORGOTTEN = 200; // sendings whose answers never came
const BEAT = 4000; // ms between two looks whether the server is still there
const PATIENCE = 2.5; // beats of silence

export class Live extends EventTarget {
  constructor(token) {
    super();
    this.token = token;
    this.session = null;
    this.nextId = 1;
    this.changes = {}; // not yet sent
    this.sent = new Map(); // id -> when
    this.attempts = 0;
    this.closed = false;
    this.#connect();
    this.heart = setInterval(() => this.#beat(), BEAT);
    addEventListener("online", () => { if (!this.open) this.#again(0); });
  }

  get open() { return this.socket?.readyState === WebSocket.OPEN; }

  #connect() {
    const url = new URL("v1/live", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (this.session) url.searchParams.set("resume", this.session);
    const protocols = ["fewstep.v1.json"];
    if (this.token) protocols.push(`fewstep.token.${this.token}`);
    this.#tell("state", { state: this.attempts ? "lost" : "connecting" });
    this.heard = performance.now();
    this.socket = new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      if (typeof data === "string") this.#message(JSON.parse(data)); else this.#picture(data);
    };
    this.socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  #lost(code, reason) {
    this.sent.clear();
    if (this.closed) return;
    const wait = RETRY[Math.min(this.attempts++, RETRY.length - 1)];
    this.#tell("state", { state: code === 1013 ? "full" : "lost", reason });
    this.#again(code === 1013 ? Math.max(wait, 5000) : wait);
  }

  #again(wait) {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => { if (!this.closed) this.#connect(); }, wait);
  }

  // A phone that left its network has a connection that looks alive and is not.
  #beat() {
    if (!this.open) return;
    if (performance.now() - this.heard > PATIENCE * BEAT) {
      this.#drop();
      this.#lost(1006, "");
    } else this.socket.send('{"type": "ping"}');
  }

  #drop() {
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }

  close() {
    this.closed = true;
    clearInterval(this.heart);
    clearTimeout(this.retry);
    this.#drop();
  }

  #message(message) {
    if (message.type === "hello") {
      this.session = message.session;
      this.attempts = 0;
      this.#tell("state", { state: "live" });
    }
    if (message.type === "error" && message.id !== null) this.sent.delete(message.id);
    this.#tell(message.type, message);
  }

  #picture(buffer) {
    const view = new DataView(buffer);
    if (view.getUint32(0, true) !== MAGIC) return;
    const id = view.getUint32(8, true);
    const kind = KINDS[view.getUint8(4)];
    this.#tell("picture", {
      id, kind,
      step: view.getUint16(12, true), steps: view.getUint16(14, true), seed: Number(view.getBigUint64(16, true)),
      waited: view.getFloat32(24, true), worked: view.getFloat32(28, true),
      sentAt: this.sent.get(id), lossless: view.getUint8(5) === FORMATS.indexOf("image/png"),
      blob: new Blob([buffer.slice(HEADER)], { type: FORMATS[view.getUint8(5)] }),
    });
    if (kind !== "preview") for (const old of [...this.sent.keys()]) if (old <= id) this.sent.delete(old);
  }

  // Changes of the same moment travel together.
  set(changes, extra = {}) {
    Object.assign(this.changes, changes);
    this.extra = { ...this.extra, ...extra };
    this.flush ??= setTimeout(() => this.#flush(), 0);
  }

  #flush() {
    this.flush = null;
    if (!this.open) return;
    const message = { type: "set", id: this.#stamp(), parameters: this.changes, ...this.extra };
    this.changes = {};
    this.extra = {};
    this.socket.send(JSON.stringify(message));
  }

  // `since`: when what it shows happened. Returns its id.
  frame(bytes, { mask = false, control = null, since } = {}) {
    if (!this.open) return null;
    if (this.flush) { clearTimeout(this.flush); this.#flush(); } // what was set before goes first
    const message = new Uint8Array(12 + bytes.byteLength);
    const view = new DataView(message.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint8(4, control !== null ? 2 : Number(mask));
    view.setUint8(5, control ?? 0);
    const id = this.#stamp(since);
    view.setUint32(8, id, true);
    message.set(new Uint8Array(bytes), 12);
    this.socket.send(message);
    return id;
  }

  // How the newest picture was made, in the server's words. `names`: what its files will be called.
  describe(names) {
    const id = this.nextId++;
    return new Promise((done, failed) => {
      const settle = ({ type, detail }) => {
        if (detail.id !== id) return;
        for (const name of ["description", "error"]) this.removeEventListener(name, settle);
        if (type === "error") failed(new Error(detail.message)); else done(detail);
      };
      for (const name of ["description", "error"]) this.addEventListener(name, settle);
      if (this.open) this.socket.send(JSON.stringify({ type: "describe", id, ...names }));
      else settle({ type: "error", detail: { id, message: "There is no connection to the server now." } });
    });
  }

  get busy() { return this.sent.size > 0; }
  get clogged() { return this.socket.bufferedAmount > 0; } // what was sent before is not even on its way

  // No answer will come to what was sent so far.
  forget() { this.sent.clear(); }

  #stamp(since = performance.now()) {
    const id = this.nextId++;
    this.sent.set(id, since);
    if (this.sent.size > FORGOTTEN) this.sent.delete(this.sent.keys().next().value);
    return id;
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
