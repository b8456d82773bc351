// The npm client @fal-ai/client, unchanged: its host is built in, so only the socket is told where that host lives.
import { createFalClient } from "@fal-ai/client";
import { WebSocket } from "ws";

const [address, token] = process.argv.slice(2);
globalThis.WebSocket = class extends WebSocket {
  constructor(url, ...rest) {
    super(url.replace("wss://fal.run", `ws://${address}`), ...rest);
  }
};

const results = [];
const client = createFalClient({ credentials: "id:secret" });
const connection = client.realtime.connect("fal-ai/fast-lcm-diffusion", {
  connectionKey: "test",
  throttleInterval: 0,
  tokenProvider: async () => token,
  onResult: (result) => {
    results.push({
      request: result.request_id, seed: result.seed, width: result.images[0].width,
      jpeg: [...result.images[0].content.slice(0, 2)],
    });
    if (results.length === 3) connection.send({ prompt: "a cat", num_inference_steps: 0 });
    else connection.send({ prompt: "a cat", seed: results.length, request_id: String(results.length) });
  },
  onError: (error) => {
    console.log(JSON.stringify({ results, error: `${error.message} ${error.body?.reason ?? ""}` }));
    process.exit(0);
  },
});
connection.send({ prompt: "a cat", seed: 0, request_id: "0" });
setTimeout(() => { console.log(JSON.stringify({ results, error: "nothing came" })); process.exit(1); }, 20000);
