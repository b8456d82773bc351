"""`fewstep train-lora`: an ordinary style LoRA, trained on a diffusion model."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import train_as_said


def train_lora(
    ctx: typer.Context,
    output: t.Output,
    model: Annotated[
        str | None,
        typer.Option(
            help="A diffusion model: starter-teacher, a folder, a checkpoint, or a hub id.", show_default=False
        ),
    ] = None,
    recipe: t.Recipe = None,
    dry_run: t.DryRun = False,
) -> int:
    """Train an ordinary LoRA on a diffusion model; stacked with an LCM-LoRA it samples in few steps.

    **Examples**

    fewstep train-lora --model starter-teacher --data ./ink --suffix ", ink style" -o runs/ink

    fewstep generate "owl, ink style" --model starter-teacher --lora runs/ink --lora runs/lcm-lora --steps 4
    """
    return train_as_said("style", "model", model, ctx, output, lora=True, recipe=recipe, dry_run=dry_run)
