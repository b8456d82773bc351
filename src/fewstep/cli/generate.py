"""`fewstep generate`: a sentence, or a sentence and a picture, becomes pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fewstep.cli import options
from fewstep.cli.again import (
    check_controls,
    check_record,
    check_sources,
    check_weights,
    recorded_embeddings,
    recorded_loras,
    recorded_model,
    recorded_options,
)
from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.loading import load_model
from fewstep.cli.output import STDOUT, line_about, output_paths, say, write_picture
from fewstep.cli.progress import StepBar, one_line_warnings
from fewstep.cli.spread import spread
from fewstep.cli.standard_input import read_stdin
from fewstep.cli.steering import read_controls
from fewstep.errors import InvalidRequest
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.imaging.reading import read_image
from fewstep.models.adapters.lora.by_name import found_by_name
from fewstep.models.precisions import FAST
from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.provenance import Record, read_record, record_of
from fewstep.pipelines.request import Request, Values

if TYPE_CHECKING:
    from PIL.Image import Image


@spread
def generate(
    *,
    output: options.Output = None,
    asked: Annotated[Mapping[str, options.Value], options.ASKED],
    grid: options.Grid = False,
    again: options.Again = None,
    loading: options.Loading,
    server: options.Server = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Generate pictures from a sentence, and print the paths of the files.

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

    echo "a cat" | fewstep generate - -o - > cat.png

    fewstep generate "a cat" --server http://127.0.0.1:7860 -o cat.png

    A picture carries its parameters (prompt, seed, steps, model), so that --from can make it again.
    """
    with one_line_warnings(quiet):
        given = _read({**asked, **loading.precision(asked["precision"])})
        if server is None:
            loading = loading.quick(asked["decoder"])
        elif loading.fast:
            given.setdefault("decoder", FAST)
        nets, given["controls"] = read_controls(loading.control or [])
        job = _plan_job(given, loading, again, there=server is not None)
        seeds = job.request.seeds
        grid = grid or job.is_sheet
        paths = output_paths(output or Path(f"fewstep-{seeds[0]}.png"), 1 if grid else len(seeds))
        record = None if server is not None else job.record
        precision = None if server is not None else job.request.precision
        how = loading.options(nets, record, loras=job.loras, embeddings=job.embeddings, precision=precision)
        if server is not None:
            _check_server_options(how)
        else:
            check_beforehand(job.model or "", how, [("", job.request)])
        if asked["seed"] is None and again is None:
            typer.echo(f"seed {seeds[0]}", err=True)  # quiet or not: without it there is no second time
        pictures = _generate(job, how, quiet) if server is None else _generate_there(server, job, quiet)
        _deliver(pictures, paths, grid, as_json)


def _deliver(pictures: Iterator[Image], paths: list[Path], grid: bool, as_json: bool) -> None:
    """Write each picture as it comes, or all on a sheet at the end, also when that comes early."""
    lines: list[str] = []
    cells: list[Image] = []

    def write(picture: Image, path: Path) -> None:
        write_picture(picture, path)
        lines.append(line_about(picture, path, as_json))

    try:
        for picture in pictures:
            if grid:
                cells.append(picture)
            else:
                write(picture, paths[len(lines)])
    except KeyboardInterrupt:
        typer.echo(f"interrupted; what is painted so far is kept: {len(cells) or len(lines)}", err=True)
        raise
    finally:
        if cells:
            write(_sheet(cells), paths[0])
        if paths != [STDOUT] or as_json:
            say(lines, paths[0])


def _read(asked: Mapping[str, options.Value]) -> Values:
    """The options that were given, as `Request.of` takes them."""
    given: dict[str, options.Value | tuple[float, ...]] = {
        name: value for name, value in asked.items() if value is not None and value is not False
    }
    if given.get("prompt") == "-":
        given["prompt"] = read_stdin("the prompt")
    if "timesteps" in given:
        given["timesteps"] = FIELDS["timesteps"].read(str(given["timesteps"]))
    pictures = {name: read_image(file) for name, file in given.items() if isinstance(file, Path)}
    return cast("Values", given | pictures)


@dataclass(frozen=True)
class _Job:
    """A request, the model for it (None: a server's first), and the picture it repeats, if any."""

    request: Request
    model: str | None
    loras: list[options.LoraSource]
    embeddings: list[options.EmbeddingSource]
    record: Record | None = None
    recorded_in: Path = Path()

    @property
    def is_sheet(self) -> bool:
        return self.record is not None and self.record.num_images > 1


def _plan_job(
    given: Values,
    loading: options.Loading,
    again: Path | None,
    *,
    there: bool,
) -> _Job:
    given, lora, embedding = _as_written(given), loading.lora, loading.embedding
    if again is None:
        if "prompt" not in given:
            raise InvalidRequest("nothing to paint: give a prompt in quotes, or --from a picture that fewstep made")
        request = Request.of(**given)
        words: list[options.EmbeddingSource] = list(embedding or ())
        if there:
            return _Job(request, loading.model, list(lora or ()), words)
        name = loading.model or options.default_model()
        return _Job(request, name, _with_named(request, list(lora or ()), name), words)
    record = read_record(again)
    if (loading.fast_decode, loading.vae) != (None, None):
        given = {"decoder": None, **given}  # what is loaded says it
    if record.travel is not None:
        what = "an animation" if record.travel.frame is None else "a frame of an animation"
        raise InvalidRequest(f"{again} is {what}: make an animation again with fewstep travel --from")
    check_sources(record, again, given.get("image"), given.get("mask"))
    check_controls(record, again, given.get("controls") or {})
    request = Request.of(**recorded_options(record, given))
    if there:  # a server knows its models and adapters by their names
        named: list[options.LoraSource] = [f"{used.name}:{used.weight}" for used in record.loras]
        words = list(embedding or ())
        return _Job(
            request, loading.model or record.model_name, named if lora is None else list(lora), words, record, again
        )
    loras: list[options.LoraSource] = list(lora) if lora is not None else recorded_loras(record, again)
    words = list(embedding) if embedding is not None else list(recorded_embeddings(record, again))
    name = loading.model or recorded_model(record, again)
    return _Job(request, name, _with_named(request, loras, name), words, record, again)


def _as_written(given: Values) -> Values:
    """The options with prompts understood; a recorded prompt has been, and is left as it is."""
    written = given.copy()
    if isinstance(words := given.get("prompt"), str):
        prompt = understood(words)
        written |= {"prompt": prompt.text, "loras": prompt.loras or None}
    if "negative_prompt" in given:
        written["negative_prompt"] = understood(given["negative_prompt"], negative=True).text
    return written


def _with_named(request: Request, loras: list[options.LoraSource], model: str) -> list[options.LoraSource]:
    return [*loras, *found_by_name(request.loras or (), loras, model)]


def _generate(job: _Job, loading: options.LoadOptions, quiet: bool) -> Iterator[Image]:
    with StepBar(quiet) as bar:
        assert job.model is not None
        model = load_model(job.model, **loading)
        bar.loaded(model)
        from fewstep.pipelines.generate import generate_each
        from fewstep.pipelines.plan import complete

        if job.record is not None:
            check_weights(job.record, job.recorded_in, model)
        plan = complete(job.request, model)
        bar.expect(plan.num_steps)
        yield from generate_each(model, plan, bar.advance)


def _generate_there(server: str, job: _Job, quiet: bool) -> Iterator[Image]:
    from fewstep.cli.remote import generated_by, loras_by_name

    loras = {**loras_by_name([str(lora) for lora in job.loras]), **(job.request.loras or {})}
    with StepBar(quiet) as bar:
        for picture in generated_by(server, job.request, job.model, loras, bar.expect, bar.advance):
            if job.record is not None:
                check_record(job.record, job.recorded_in, picture)
            yield picture


def _check_server_options(loading: options.LoadOptions) -> None:
    """Raises `InvalidRequest` for what says how to load a model."""
    by_name = ("loras", "controlnets")
    if given := [
        name for name, value in loading.items() if name not in by_name and value not in (None, "auto", (), [])
    ]:
        option = given[0].replace("_", "-")
        raise InvalidRequest(
            f"--{option} is for a model that is loaded here; the server of --server has loaded its own"
        )


def _sheet(images: list[Image]) -> Image:
    """All pictures on one, which carries the parameters of the first and their number."""
    sheet = contact_sheet(images)
    record = record_of(images[0])
    assert record is not None
    sheet.info.update(dataclasses.replace(record, num_images=len(images)).chunks())
    return sheet
