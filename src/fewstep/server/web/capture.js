// Camera and screen as a stream of frames, at most one on its way at a time.

export class Capture {
  constructor(video) {
    this.video = video;
    this.stream = null;
  }

  // Why it cannot be, in words that help; null when it can.
  static obstacle() {
    if (navigator.mediaDevices) return null;
    return "The browser lends camera and screen only to pages from this machine or over HTTPS. "
      + "Start the server with --https, or open it as http://localhost.";
  }

  async start(kind) {
    this.stop();
    const wanted = { video: { width: { ideal: 640 }, height: { ideal: 640 } }, audio: false };
    this.stream = kind === "screen"
      ? await navigator.mediaDevices.getDisplayMedia({ video: true, audio: false })
      : await navigator.mediaDevices.getUserMedia(wanted);
    this.video.srcObject = this.stream;
    this.stream.getVideoTracks()[0].addEventListener("ended", () => this.stop());
    await this.video.play();
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  get running() { return this.stream !== null && this.video.readyState >= 2; }
}

// A canvas or a video as the bytes of a JPEG of the model's size.
const scratch = document.createElement("canvas");

export async function jpeg(source, width, height) {
  Object.assign(scratch, { width, height });
  const context = scratch.getContext("2d");
  const across = source.videoWidth || source.width;
  const down = source.videoHeight || source.height;
  const scale = Math.max(width / across, height / down);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, (width - across * scale) / 2, (height - down * scale) / 2, across * scale, down * scale);
  const blob = await new Promise((done) => scratch.toBlob(done, "image/jpeg", 0.92));
  return blob.arrayBuffer();
}
