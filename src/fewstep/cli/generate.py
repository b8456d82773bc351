"""`fewstep generate`: a sentence, or a sentence and a picture, becomes pictures."""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewstep.cli.again import (
    check_controls,
    check_sources,
    check_weights,
    recorded_loras,
    recorded_model,
    recorded_options,
)
from fewstep.cli.output import output_paths, write_png
from fewstep.cli.progress import StepBar, one_line_warnings
from fewstep.errors import InvalidRequest
from fewstep.models.locating import name_of
from fewstep.pipelines.contact_sheet import contact_sheet
from fewstep.pipelines.image_file import read_image
from fewstep.pipelines.provenance import Record, read_record, record_of
from fewstep.pipelines.request import Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.models.bundle import ModelBundle

LoraSource = str | tuple[str, float]

WHAT = "What to paint"
HOW = "How"
WHERE = "Where"


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What to paint, in words.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The PNG file; several are numbered. Default: fewstep-SEED.png", show_default=False
        ),
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option("--num-images", "-n", help="How many, with the seeds SEED, SEED+1, … [default: 1]"),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All pictures on one sheet, in one file.")] = False,
    image: Annotated[
        Path | None, typer.Option(help="A picture to start from.", rich_help_panel=WHAT, show_default=False)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of it is painted anew, above 0 to 1. [default: 0.5]", rich_help_panel=WHAT),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Where it is painted anew: white; black stays. [default: everywhere]",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Make this picture again, from the parameters inside it; other options override them.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(help="What to avoid; only for models with real guidance.", rich_help_panel=WHAT),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network calls along the way. [default: the model's; 4 for the starter]", rich_help_panel=HOW
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same picture. [default: a random one]", rich_help_panel=HOW),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(help="How closely to follow the words. [default: the model's]", rich_help_panel=HOW),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="lcm; for diffusion models dpm++, ddim, heun. [default: the model's]", rich_help_panel=HOW),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(
            help="In place of --steps: the times themselves, 999,749,499,249; for models that want their own.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    height: Annotated[int | None, typer.Option(help="In pixels. [default: the model's]", rich_help_panel=HOW)] = None,
    width: Annotated[int | None, typer.Option(help="In pixels. [default: the model's]", rich_help_panel=HOW)] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="starter, starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id. "
            "[default: starter]",
            rich_help_panel=WHERE,
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="An adapter on top, and how much of it: style.safetensors:0.8, a hub id, or lcm-lora; repeat for "
            "several.",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="For a single-file model of unusual shape: a model folder with its configs and tokenizers.",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="A ControlNet (folder or hub id) and the picture that it reads: NET=edges.png, or NET=edges.png:0.8; "
            "repeat for several.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(
            help="Another autoencoder: a folder, a hub id, or taesd, the tiny one. [default: the model's]",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]", rich_help_panel=WHERE)
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, float16, bfloat16. [default: float16 on CUDA, else float32]", rich_help_panel=WHERE
        ),
    ] = None,
) -> None:
    """Paint pictures from a sentence, and print the paths of the files.

    **Examples**

    fewstep generate "a cat face" -o cat.png

    fewstep generate "sad robot" -n 9 --grid -o robots.png --seed 7

    fewstep generate "a blue cat" --image cat.png --strength 0.6 -o blue.png

    fewstep generate "a hat" --image cat.png --mask head.png -o hat.png

    fewstep generate --from cat.png --steps 8 -o cat8.png

    fewstep generate "a cat" --model ./my-sd15 --lora lcm-lora --lora ink.safetensors:0.8

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
    }
    with one_line_warnings():
        options = {name: value for name, value in wanted.items() if value is not None}
        nets, options["controls"] = _read_controls(control or [])
        job = _plan_job(options, image, mask, model, lora, again)
        seeds = job.request.seeds
        grid = grid or job.is_sheet
        paths = output_paths(output or Path(f"fewstep-{seeds[0]}.png"), 1 if grid else len(seeds))
        images = _paint(job, {"device": device, "dtype": dtype, "vae": vae, "config": config, "controlnets": nets})
    if seed is None and again is None:
        typer.echo(f"seed {seeds[0]}", err=True)
    for picture, path in zip([_sheet(images)] if grid else images, paths, strict=True):
        write_png(picture, path)
        typer.echo(path)


def _read_controls(given: list[str]) -> tuple[list[str], dict[str, Control]]:
    """The ControlNets to load, and by their names the pictures that they read."""
    nets, controls = [], {}
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
        controls[name_of(net)] = Control(read_image(picture), strength)
    return nets, controls


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
    again: Path | None,
) -> _Job:
    source, where = (None if path is None else read_image(path) for path in (image, mask))
    if again is None:
        if "prompt" not in options:
            raise InvalidRequest("nothing to paint: give a prompt in quotes, or --from a picture that fewstep made")
        return _Job(Request.of(image=source, mask=where, **options), model or "starter", list(lora or ()))
    record = read_record(again)
    check_sources(record, again, source, where)
    check_controls(record, again, options["controls"])
    request = Request.of(image=source, mask=where, **recorded_options(record, options))
    loras: list[LoraSource] = list(lora) if lora is not None else recorded_loras(record, again)
    return _Job(request, model or recorded_model(record, again), loras, record, again)


def _paint(job: _Job, loading: dict[str, Any]) -> list[Image]:
    with StepBar() as bar:
        model = _load(job.model, loras=job.loras, **loading)
        from fewstep.pipelines.plan import complete
        from fewstep.pipelines.text2image import generate

        if job.record is not None:
            check_weights(job.record, job.recorded_in, model)
        plan = complete(job.request, model)
        bar.expect(plan.num_batches * len(plan.timesteps))
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
