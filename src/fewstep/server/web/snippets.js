// The same picture from OpenAI's door, by curl.

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

const MARKS = /[^\p{L}\p{N}\s',.!?]|BREAK|AND/u; // that a prompt may hold, and that door reads where it is told to

// `recipe`: how the picture was made, in the server's words; `files`: the names of what it starts from; `token`: whether
// the server wants to see one.
export function curl({ record, prompt, negative_prompt }, files, token) {
  if (record.controls.length) return null; // which that door does not have
  const timed = record.timesteps !== null;
  const fields = {
    prompt, prompt_marks: MARKS.test(prompt + negative_prompt) || null, model: record.model_name, size: `${record.width}x${record.height}`, seed: record.seed,
    steps: timed ? null : record.steps, timesteps: record.timesteps, guidance_scale: record.guidance_scale,
    sampler: record.sampler, precision: record.precision, decoder: record.decoder, negative_prompt: negative_prompt || null, strength: timed ? null : record.strength,
    variation: record.variation, variation_seed: record.variation_seed, upscale: record.upscale,
    refine_strength: record.refine_strength, refine_steps: record.refine_steps, tile: record.tile || null,
    loras: record.loras.length ? Object.fromEntries(record.loras.map(({ name, weight }) => [name, weight])) : null,
  };
  const origin = new URL(".", location.href).href.slice(0, -1);
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  const secret = token ? ' -H "Authorization: Bearer $FEWSTEP_TOKEN"' : "";
  const kept = " | jq -r '.data[0].b64_json' | base64 -d > picture.png";
  if (!record.source) {
    const body = quoted(JSON.stringify(Object.fromEntries(given)));
    return `curl -s ${origin}/v1/images/generations${secret} -H 'content-type: application/json' -d ${body}${kept}`;
  }
  const form = given.map(([name, value]) => `--form-string ${quoted(`${name}=${typeof value === "object" ? JSON.stringify(value) : value}`)}`);
  const hole = record.mask ? ` -F mask=@${files.hole}` : "";
  return `curl -s ${origin}/v1/images/edits${secret} -F image=@${files.image}${hole} ${form.join(" ")}${kept}`;
}
