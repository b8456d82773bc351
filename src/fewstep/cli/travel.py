"""`fewstep travel`: an animation on the way from one prompt, or one seed, to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.cli import options
from fewstep.cli.again import (
    check_controls,
    check_weights,
    recorded_embeddings,
    recorded_loras,
    recorded_model,
)
from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.loading import load_model
from fewstep.cli.output import ANIMATED, STDOUT, check_outputs, line_about, say, write_animation
from fewstep.cli.progress import StepBar, one_line_warnings
from fewstep.cli.spread import spread
from fewstep.cli.standard_input import read_stdin
from fewstep.cli.steering import read_controls
from fewstep.errors import InvalidRequest
from fewstep.models.adapters.lora.by_name import found_by_name
from fewstep.pipelines.provenance import Record, Travelled, read_record, record_of
from fewstep.pipelines.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES, FPS = 24, 12.0


@spread
def travel(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The animation: .webp, .gif or .png; - for standard output.")
    ],
    loading: options.Loading,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="The stops on the way; one alone travels between seeds.", show_default=False),
    ] = None,
    frames: Annotated[int | None, typer.Option(help=f"Pictures in all. [default: {FRAMES}]")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Of each stop, in turn; repeat for several. [default: 0]")
    ] = None,
    fps: Annotated[float | None, typer.Option(help=f"Frames a second. [default: {FPS:g}]", min=0.1, max=60)] = None,
    back: Annotated[
        bool | None, typer.Option("--back/--one-way", help="Back again, so that it loops without a jump.")
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Make this animation again, from the parameters inside it; other options override them."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of each picture. [default: the model's]")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="[default: the model's]")] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Generate an animation that travels through prompts and seeds; it carries its parameters, as pictures do.

    **Examples**

    fewstep travel "a cat face" "a dog face" -o pets.webp

    fewstep travel "a red heart" --seed 1 --seed 2 --seed 3 --back -o hearts.gif

    fewstep travel --from hearts.gif --frames 48 -o slower.webp
    """
    check_outputs([output], ANIMATED)
    with one_line_warnings(quiet):
        nets, controls = read_controls(loading.control or [])
        before = None if again is None else _recorded(again)
        way = _Way.of(prompts, seed, frames, fps, back, None if before is None else before.travel)
        loading, precision, decoder = loading.quick(), loading.precision().get("precision"), None
        if before is not None and precision is None:
            precision, decoder = before.precision, before.decoder
        name = loading.model or options.default_model()
        how = loading.options(nets, before, precision=precision)
        if before is not None and again is not None:
            check_controls(before, again, controls)
            steps = before.steps if steps is None else steps
            guidance_scale = before.guidance_scale if guidance_scale is None else guidance_scale
            if loading.lora is None:
                how["loras"] = recorded_loras(before, again)
            if loading.embedding is None:
                how["embeddings"] = recorded_embeddings(before, again)
            name = loading.model or recorded_model(before, again)
        from fewstep.pipelines.travel import Way, frames_on_the_way, understood_stops

        frames_on_the_way(len(way.stops), way.frames)
        stops, named = understood_stops(way.stops) if prompts else (way.stops, {})  # a record's are understood already
        how["loras"] = [*how["loras"], *found_by_name(named, how["loras"], name)]
        asked = Request(
            tuple(prompt for prompt, _ in stops),
            tuple(seed for _, seed in stops),
            loras=named or None,
            steps=steps,
            guidance_scale=guidance_scale,
            controls=controls or None,
            precision=precision,
            decoder=decoder,
        )
        check_beforehand(name, how, [("", asked)])

        def generate() -> Iterator[Image]:
            with StepBar(quiet) as bar:
                bundle = load_model(name, **how)
                bar.loaded(bundle)
                if before is not None and again is not None:
                    check_weights(before, again, bundle)
                planned = Way.through(bundle, stops, way.frames, asked)
                bar.expect(planned.plan.num_steps)
                yield from planned.generate_each(bar.advance)

        _deliver(generate(), way, output, as_json)


@dataclass(frozen=True)
class _Way:
    """What is asked for: the stops, (prompt, seed) each, and how the animation runs through them."""

    stops: list[tuple[str, int]]
    frames: int
    fps: float
    back: bool

    @classmethod
    def of(
        cls,
        prompts: list[str] | None,
        seeds: list[int] | None,
        frames: int | None,
        fps: float | None,
        back: bool | None,
        before: Travelled | None,
    ) -> _Way:
        """The options, and what an animation says where they are not given; raises `InvalidRequest`."""
        if not prompts and before is None:
            raise InvalidRequest("nothing to paint: give prompts in quotes, or --from an animation that fewstep made")
        known = Travelled((), FRAMES, fps=FPS) if before is None else before
        texts = read_stdin("prompts").splitlines() if prompts == ["-"] else prompts
        texts = texts or [prompt for prompt, _ in known.stops]
        numbers = seeds or [seed for _, seed in known.stops] or [0]
        count = max(len(texts), len(numbers))
        return cls(
            stops=list(zip(islice(cycle(texts), count), islice(cycle(numbers), count), strict=True)),
            frames=known.frames if frames is None else frames,
            fps=fps or known.fps or FPS,
            back=known.back if back is None else back,
        )


def _recorded(path: Path) -> Record:
    """The record of an animation; raises `InvalidRequest` for one of a picture."""
    record = read_record(path)
    if record.travel is None or record.travel.frame is not None:
        raise InvalidRequest(
            f"{path} is no animation by fewstep travel; make a picture again with fewstep generate --from"
        )
    return record


def _deliver(pictures: Iterator[Image], way: _Way, output: Path, as_json: bool) -> None:
    """Write the animation; when it ends early, of the frames that there are."""
    from fewstep.pipelines.travel import there_and_back

    images: list[Image] = []
    try:
        for image in pictures:
            images.append(image)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; what is painted so far is kept: {len(images)} frames", err=True)
        raise
    finally:
        if images:
            first = images[0]
            first.info.update(_of_the_whole(record_of(first), way).chunks())
            write_animation(there_and_back(images) if way.back else images, output, way.fps)
            if output != STDOUT or as_json:
                say([line_about(first, output, as_json)], output)


def _of_the_whole(record: Record | None, way: _Way) -> Record:
    assert record is not None
    assert record.travel is not None
    whole = dataclasses.replace(record.travel, frame=None, back=way.back, fps=way.fps)
    return dataclasses.replace(record, travel=whole)
