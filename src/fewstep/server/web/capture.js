// Camera and screen as a stream of frames; and any picture as the bytes of a JPEG.

const FRAME = 33; // ms, where the browser does not tell of new frames itself

export class Capture extends EventTarget {
  // Tells "frame" when there is a new one, "ended" when the camera was pulled out or the sharing stopped.
  constructor(video) {
    super();
    this.video = video;
    this.stream = null;
  }

  static canShareScreen() { return !navigator.mediaDevices || "getDisplayMedia" in navigator.mediaDevices; }

  // Why it cannot be, in words that help; null when it can.
  static obstacle(kind) {
    if (navigator.mediaDevices) return null;
    return `The browser lends the ${kind} only to pages from this machine or over HTTPS. `
      + "Start the server with --https, or open it as http://localhost.";
  }

  async start(kind) {
    this.stop();
    const wanted = { video: { width: { ideal: 640 }, height: { ideal: 640 } }, audio: false };
    const stream = kind === "screen"
      ? await navigator.mediaDevices.getDisplayMedia({ video: true, audio: false })
      : await navigator.mediaDevices.getUserMedia(wanted);
    this.stream = stream;
    this.video.srcObject = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (this.stream === stream) this.dispatchEvent(new Event("ended"));
    });
    await this.video.play();
    this.#watch(stream);
  }

  #watch(stream) {
    if (this.stream !== stream) return;
    this.dispatchEvent(new Event("frame"));
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(() => this.#watch(stream));
    else setTimeout(() => this.#watch(stream), FRAME);
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  get running() { return this.stream !== null && this.video.readyState >= 2; }
}

const scratch = document.createElement("canvas");

// A canvas or a video as a file's bytes, of the model's size; a drawing travels without loss.
export async function coded(source, width, height, type = "image/jpeg") {
  Object.assign(scratch, { width, height });
  const context = scratch.getContext("2d");
  const across = source.videoWidth || source.width;
  const down = source.videoHeight || source.height;
  const scale = Math.max(width / across, height / down);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, (width - across * scale) / 2, (height - down * scale) / 2, across * scale, down * scale);
  const blob = await new Promise((done) => scratch.toBlob(done, type, 0.92));
  return blob.arrayBuffer();
}
