// The same picture by other means: shell, curl, Python.

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

// `over` a picture, `masked` or not; `token`: whether the server wants to see one.
export function snippets(state, { over, masked, token }) {
  const origin = new URL(".", location.href).href.slice(0, -1);
  const body = {
    prompt: state.prompt, seed: state.seed, steps: state.steps, guidance_scale: state.guidance_scale,
    size: `${state.width}x${state.height}`,
  };
  const loras = Object.entries(state.loras ?? {});
  if (state.model) body.model = state.model;
  if (loras.length) body.loras = state.loras;
  if (state.negative_prompt) body.negative_prompt = state.negative_prompt;
  if (/[()[\]\\<]|\bBREAK\b/.test(`${state.prompt} ${state.negative_prompt ?? ""}`)) body.prompt_marks = true;
  const options = [
    `--seed ${state.seed}`, `--steps ${state.steps}`, `--guidance-scale ${state.guidance_scale}`,
    `--width ${state.width}`, `--height ${state.height}`,
  ];
  if (state.negative_prompt) options.push(`--negative-prompt ${quoted(state.negative_prompt)}`);
  if (state.model) options.push(`--model ${quoted(state.model)}`);
  for (const [name, weight] of loras) options.push(`--lora ${quoted(`${name}.safetensors:${weight}`)}`);
  if (over) options.push(`--image input.png --strength ${state.strength}${masked ? " --mask mask.png" : ""}`);
  const secret = token ? ' -H "Authorization: Bearer $FEWSTEP_TOKEN"' : "";
  const call = over
    ? `fewstep.image2image(model, ${JSON.stringify(state.prompt)}, "input.png",${masked ? ' mask="mask.png",' : ""} strength=${state.strength},`
    : `fewstep.text2image(model, ${JSON.stringify(state.prompt)},`;
  const fields = Object.entries({ ...body, strength: state.strength })
    .map(([name, value]) => `-F ${quoted(`${name}=${name === "loras" ? JSON.stringify(value) : value}`)}`);
  return [
    ["Command", `fewstep generate ${quoted(state.prompt)} ${options.join(" ")} -o picture.png`],
    ["Python", [
      "import fewstep",
      `model = fewstep.load(${JSON.stringify(state.model ?? "starter")}${loras.length ? `, loras=${JSON.stringify(loras.map(([name, weight]) => `${name}.safetensors:${weight}`))}` : ""})`,
      `image = ${call} seed=${state.seed}, steps=${state.steps}, guidance_scale=${state.guidance_scale})`,
      'image.save("picture.png")',
    ].join("\n")],
    ["curl", over
      ? `curl ${origin}/v1/images/edits${secret} -F image=@input.png ${masked ? "-F mask=@hole.png " : ""}${fields.join(" ")}`
      : `curl ${origin}/v1/images/generations${secret} -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))}`],
  ];
}
