// The npm client @fal-ai/client, unchanged: its calls go by its own `proxyUrl`; the host of its socket is built in, so
// the socket is told where that host lives.
import { createFalClient } from "@fal-ai/client";
import { WebSocket } from "ws";

const [address, token] = process.argv.slice(2);
globalThis.WebSocket = class extends WebSocket {
  constructor(url, ...rest) {
    super(url.replace("wss://fal.run", `ws://${address}`), ...rest);
  }
};
console.warn = () => {}; // it warns of its own default, the exchange of tokens

const app = "fal-ai/fast-lcm-diffusion";
const fal = createFalClient({
  credentials: token,
  proxyUrl: { url: `http://${address}/fal/proxy`, when: "always" },
  retry: { maxRetries: 0 },
});
const input = { prompt: "a cat", seed: 3, num_inference_steps: 2 };
const failure = (call) => call.then(() => null, (error) => error);
const told = {};

const run = await fal.run(app, { input });
told.run = { url: run.data.images[0].url, id: run.requestId };

for (const [name, mode] of [["polled", "polling"], ["streamed", "streaming"]]) {
  let last;
  const answer = await fal.subscribe(app, { input, mode, pollInterval: 50, onQueueUpdate: ({ status }) => { last = status; } });
  told[name] = { url: answer.data.images[0].url, last };
}

const stream = await fal.stream(app, { input });
const steps = [];
for await (const event of stream) steps.push(event.step ?? null);
told.stream = { steps, url: (await stream.done()).images[0].url };

const large = { input: { prompt: "x", num_images: 8, num_inference_steps: 8 } };
const [, second] = [await fal.queue.submit(app, large), await fal.queue.submit(app, large)];
await fal.queue.cancel(app, { requestId: second.request_id });
told.cancelled = (await fal.queue.status(app, { requestId: second.request_id })).error_type;

told.invalid = (await failure(fal.run(app, { input: { num_inference_steps: 0 } }))).status;
told.upload = (await failure(fal.storage.upload(new Blob(["x"], { type: "image/png" })))).body.detail;

told.results = [];
const connection = fal.realtime.connect(app, {
  connectionKey: "test",
  throttleInterval: 0,
  onResult: (result) => {
    told.results.push({
      request: result.request_id, seed: result.seed, width: result.images[0].width,
      jpeg: [...result.images[0].content.slice(0, 2)],
    });
    if (told.results.length === 3) connection.send({ prompt: "a cat", num_inference_steps: 0 });
    else connection.send({ prompt: "a cat", seed: told.results.length, request_id: String(told.results.length) });
  },
  onError: (error) => {
    console.log(JSON.stringify({ ...told, error: `${error.message} ${error.body?.reason ?? ""}` }));
    process.exit(0);
  },
});
connection.send({ prompt: "a cat", seed: 0, request_id: "0" });
setTimeout(() => { console.log(JSON.stringify({ ...told, error: "nothing came" })); process.exit(1); }, 20000);
