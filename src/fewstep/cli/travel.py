"""`fewstep travel`: an animation on the way from one prompt, or one seed, to the next."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from fewstep.cli import options
from fewstep.cli.progress import StepBar, one_line_warnings
from fewstep.errors import CannotWrite
from fewstep.files import replacing
from fewstep.models.lora_by_name import found_by_name
from fewstep.pipelines.prompts import understood

FORMATS = {".webp": {"quality": 90, "method": 4}, ".gif": {"optimize": True, "disposal": 2}, ".png": {}}


def travel(
    prompts: Annotated[list[str], typer.Argument(help="The stops on the way; one alone travels between seeds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The animation: .webp, .gif or .png.")],
    frames: Annotated[int, typer.Option(help="Pictures in all.")] = 24,
    seed: Annotated[
        list[int] | None, typer.Option(help="Of each stop, in turn; repeat for several. [default: 0]")
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames a second.", min=0.1, max=60)] = 12,
    back: Annotated[bool, typer.Option("--back", help="Back again, so that it loops without a jump.")] = False,
    steps: Annotated[int | None, typer.Option(help="Of each picture. [default: the model's]")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="[default: the model's]")] = None,
    model: options.Model = None,
    lora: options.Lora = None,
    config: options.Config = None,
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
    """Paint an animation that travels through prompts and seeds.

    **Examples**

    fewstep travel "a cat face" "a dog face" -o pets.webp

    fewstep travel "a red heart" --seed 1 --seed 2 --seed 3 --back -o hearts.gif
    """
    if output.suffix.lower() not in FORMATS:
        raise CannotWrite(f"cannot write {output}: an animation's name ends in {', '.join(FORMATS)}")
    seeds = seed or [0]
    count = max(len(prompts), len(seeds))
    stops = list(zip(islice(cycle(prompts), count), islice(cycle(seeds), count), strict=True))
    named = found_by_name(understood(prompts[0]).loras, lora or (), model or "starter")
    with one_line_warnings(quiet), StepBar(quiet) as bar, replacing(output) as partial:
        from fewstep.models.loading import load
        from fewstep.pipelines.travel import Way, there_and_back

        bundle = load(
            model or "starter",
            loras=[*(lora or ()), *named],
            config=config,
            vae=options.decoder(vae, fast_decode),
            kind=kind,
            prediction_type=prediction_type,
            zero_snr=zero_snr,
            unet=unet,
            embeddings=embedding or (),
            variant=variant,
            device=device,
            dtype=dtype,
            memory=memory,
        )
        bar.loaded(bundle)
        way = Way.of(bundle, stops, frames, steps=steps, guidance_scale=guidance_scale)
        bar.expect(way.plan.num_steps)
        images = way.paint(bar.advance)
        first, *rest = there_and_back(images) if back else images
        writing: dict[str, Any] = FORMATS[output.suffix.lower()]
        kind = output.suffix[1:].upper()
        first.save(partial, kind, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **writing)
    typer.echo(output)
