"""`fewstep generate`: a sentence, or a sentence and a picture, becomes pictures."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fewstep.cli import options
from fewstep.cli.again import (
    check_controls,
    check_sources,
    check_weights,
    recorded_embeddings,
    recorded_loras,
    recorded_model,
    recorded_options,
    recorded_overrides,
)
from fewstep.cli.output import output_paths, write_png
from fewstep.cli.progress import StepBar, one_line_warnings
from fewstep.errors import InvalidRequest
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.imaging.reading import read_image
from fewstep.models.locating import names_of
from fewstep.models.lora_by_name import found_by_name
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.provenance import Record, read_record, record_of
from fewstep.pipelines.request import Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.models.bundle import ModelBundle

LoraSource = str | tuple[str, float]


def generate(
    prompt: options.Prompt = None,
    output: options.Output = None,
    num_images: options.NumImages = None,
    grid: options.Grid = False,
    image: options.Source = None,
    strength: options.Strength = None,
    mask: options.Mask = None,
    again: options.Again = None,
    negative_prompt: options.NegativePrompt = None,
    steps: options.Steps = None,
    seed: options.Seed = None,
    variation: options.Variation = None,
    variation_seed: options.VariationSeed = None,
    guidance_scale: options.GuidanceScale = None,
    sampler: options.Sampler = None,
    timesteps: options.Timesteps = None,
    height: options.Height = None,
    width: options.Width = None,
    upscale: options.Upscale = None,
    refine_strength: options.RefineStrength = None,
    refine_steps: options.RefineSteps = None,
    tile: options.Tile = False,
    model: options.Model = None,
    lora: options.Lora = None,
    config: options.Config = None,
    control: options.Control = None,
    vae: options.Vae = None,
    fast_decode: options.FastDecode = None,
    kind: options.Kind = None,
    prediction_type: options.PredictionType = None,
    zero_snr: options.ZeroSnr = None,
    unet: options.Unet = None,
    embedding: options.Embedding = None,
    variant: options.Variant = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    memory: options.Memory = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Paint pictures from a sentence, and print the paths of the files.

    **Examples**

    fewstep generate "a cat face" -o cat.png

    fewstep generate "sad robot" -n 9 --grid -o robots.png --seed 7

    fewstep generate "a blue cat" --image cat.png --strength 0.6 -o blue.png

    fewstep generate "a hat" --image cat.png --mask head.png -o hat.png

    fewstep generate --from cat.png --steps 8 -o cat8.png

    fewstep generate --from cat.png --variation 0.3 -n 4 --grid -o near.png

    fewstep generate "a cat" --model ./my-sd15 --lora lcm-lora --upscale 2 -o large.png

    fewstep generate "a cat" --model ./my-sd15 --lora lcm-lora --lora ink.safetensors:0.8

    fewstep generate "a cat <lora:blue-ink:0.8>"

    A picture carries its parameters (prompt, seed, steps, model), so that --from can make it again.
    """
    wanted: dict[str, Any] = {
        "prompt": prompt,
        "seed": seed,
        "num_images": num_images,
        "negative_prompt": negative_prompt,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "sampler": sampler,
        "height": height,
        "width": width,
        "strength": strength,
        "timesteps": None if timesteps is None else _whole_numbers(timesteps),
        "variation": variation,
        "variation_seed": variation_seed,
        "upscale": upscale,
        "refine_strength": refine_strength,
        "refine_steps": refine_steps,
        "tile": tile or None,
    }
    with one_line_warnings(quiet):
        given = {name: value for name, value in wanted.items() if value is not None}
        nets, given["controls"] = _read_controls(control or [])
        job = _plan_job(given, image, mask, model, lora, embedding, again)
        seeds = job.request.seeds
        grid = grid or job.is_sheet
        paths = output_paths(output or Path(f"fewstep-{seeds[0]}.png"), 1 if grid else len(seeds))
        loading = {
            "device": device,
            "dtype": dtype,
            "vae": options.decoder(vae, fast_decode, None if job.record is None else job.record.vae),
            "config": config,
            "controlnets": nets,
            "kind": kind,
            "prediction_type": prediction_type,
            "zero_snr": zero_snr,
            "unet": unet,
            "variant": variant,
            "memory": memory,
        }
        if job.record is not None:
            loading = recorded_overrides(job.record, loading)
        images = _paint(job, loading, quiet)
    if seed is None and again is None and not quiet:
        typer.echo(f"seed {seeds[0]}", err=True)
    for picture, path in zip([_sheet(images)] if grid else images, paths, strict=True):
        write_png(picture, path)
        typer.echo(path)


def _read_controls(given: list[str]) -> tuple[list[str], dict[str, Control]]:
    """The ControlNets to load, and by their names the pictures that they read."""
    nets, controls = [], []
    for text in given:
        net, equals, file = text.rpartition("=")
        path, colon, scale = file.rpartition(":")
        if not equals or not net:
            raise InvalidRequest(f"--control {text[:60]!r}: give NET=PICTURE, with :SCALE behind it where it is not 1")
        try:
            picture, strength = (path, float(scale)) if colon else (file, 1.0)
        except ValueError:
            picture, strength = file, 1.0
        nets.append(net)
        controls.append(Control(read_image(picture), strength))
    return nets, dict(zip(names_of(nets), controls, strict=True))


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest(f"the timesteps are {text[:60]!r}; give whole numbers with commas: 999,749,499") from error


@dataclass(frozen=True)
class _Job:
    """A request, the model for it, and the picture it repeats, if any."""

    request: Request
    model: str
    loras: list[LoraSource]
    embeddings: list[str | tuple[str, str]]
    record: Record | None = None
    recorded_in: Path = Path()

    @property
    def is_sheet(self) -> bool:
        return self.record is not None and self.record.num_images > 1


def _plan_job(
    options: dict[str, Any],
    image: Path | None,
    mask: Path | None,
    model: str | None,
    lora: list[str] | None,
    embedding: list[str] | None,
    again: Path | None,
) -> _Job:
    source, where = (None if path is None else read_image(path) for path in (image, mask))
    options = _as_written(options)
    if again is None:
        if "prompt" not in options:
            raise InvalidRequest("nothing to paint: give a prompt in quotes, or --from a picture that fewstep made")
        request = Request.of(image=source, mask=where, **options)
        name = model or "starter"
        return _Job(request, name, _with_named(request, list(lora or ()), name), list(embedding or ()))
    record = read_record(again)
    check_sources(record, again, source, where)
    check_controls(record, again, options["controls"])
    request = Request.of(image=source, mask=where, **recorded_options(record, options))
    loras: list[LoraSource] = list(lora) if lora is not None else recorded_loras(record, again)
    words: list[str | tuple[str, str]] = (
        list(embedding) if embedding is not None else recorded_embeddings(record, again)
    )
    name = model or recorded_model(record, again)
    return _Job(request, name, _with_named(request, loras, name), words, record, again)


def _as_written(options: dict[str, Any]) -> dict[str, Any]:
    """The options with prompts understood; a recorded prompt has been, and is left as it is."""
    written = dict(options)
    if "prompt" in options:
        prompt = understood(options["prompt"])
        written |= {"prompt": prompt.text, "loras": prompt.loras or None}
    if "negative_prompt" in options:
        written["negative_prompt"] = understood(options["negative_prompt"], negative=True).text
    return written


def _with_named(request: Request, loras: list[LoraSource], model: str) -> list[LoraSource]:
    return [*loras, *found_by_name(request.loras or (), loras, model)]


def _paint(job: _Job, loading: dict[str, Any], quiet: bool) -> list[Image]:
    with StepBar(quiet) as bar:
        model = _load(job.model, loras=job.loras, embeddings=job.embeddings, **loading)
        bar.loaded(model)
        from fewstep.pipelines.plan import complete
        from fewstep.pipelines.text2image import generate

        if job.record is not None:
            check_weights(job.record, job.recorded_in, model)
        plan = complete(job.request, model)
        bar.expect(plan.num_steps)
        return generate(model, plan, bar.advance)


def _load(name: str, **options: Any) -> ModelBundle:
    gc.disable()  # the imports make a million objects that all stay: to look at them again and again takes a second
    try:
        from fewstep.models.loading import load

        return load(name, **options)
    finally:
        gc.freeze()
        gc.enable()


def _sheet(images: list[Image]) -> Image:
    """All pictures on one, which carries the parameters of the first and their number."""
    sheet = contact_sheet(images)
    record = record_of(images[0])
    assert record is not None
    sheet.info.update(dataclasses.replace(record, num_images=len(images)).chunks())
    return sheet
