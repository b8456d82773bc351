// The same picture by other means: shell, curl, Python.

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

export function snippets(state, overPicture) {
  const origin = location.origin;
  const body = {
    prompt: state.prompt, seed: state.seed, steps: state.steps, guidance_scale: state.guidance_scale,
    size: `${state.width}x${state.height}`,
  };
  const loras = Object.entries(state.loras ?? {});
  if (state.model) body.model = state.model;
  if (loras.length) body.loras = state.loras;
  if (state.negative_prompt) body.negative_prompt = state.negative_prompt;
  const options = [
    `--seed ${state.seed}`, `--steps ${state.steps}`, `--guidance-scale ${state.guidance_scale}`,
    `--width ${state.width}`, `--height ${state.height}`,
  ];
  if (state.negative_prompt) options.push(`--negative-prompt ${quoted(state.negative_prompt)}`);
  if (state.model) options.push(`--model ${quoted(state.model)}`);
  for (const [name, weight] of loras) options.push(`--lora ${quoted(`${name}.safetensors:${weight}`)}`);
  if (overPicture) options.push(`--image input.png --strength ${state.strength}`);
  const call = overPicture
    ? `fewstep.image2image(model, ${JSON.stringify(state.prompt)}, "input.png", strength=${state.strength},`
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
    ["curl", overPicture
      ? `curl ${origin}/v1/images/edits -F image=@input.png ${fields.join(" ")}`
      : `curl ${origin}/v1/images/generations -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))}`],
  ];
}
