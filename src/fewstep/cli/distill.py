"""`fewstep distill`: a slow model becomes one of few steps (latent consistency distillation)."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import train_as_said


def distill(
    ctx: typer.Context,
    output: t.Output,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id.",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="An LCM-LoRA in place of a whole model.")] = False,
    recipe: t.Recipe = None,
    dry_run: t.DryRun = False,
) -> int:
    """Distil a diffusion model into one of 1 to 8 steps, from your own pictures; all of it is resumable.

    The run's folder gets sheets of samples, a report (report.html), checkpoints, and at the end the model (model/), or
    with --lora the adapter, in diffusers' and in kohya's spelling.

    **Examples**

    fewstep distill --teacher starter-teacher --data ./pictures -o runs/fast

    fewstep distill --teacher ./stable-diffusion-v1-5 --data ./pictures --lora --precision bfloat16 -o runs/lcm-lora
    """
    return train_as_said("distill", "teacher", teacher, ctx, output, lora=lora, recipe=recipe, dry_run=dry_run)
