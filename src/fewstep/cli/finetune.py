"""`fewstep finetune`: a few-step model learns new pictures, without a teacher (latent consistency fine-tuning)."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import train_as_said


def finetune(
    ctx: typer.Context,
    output: t.Output,
    model: Annotated[
        str | None,
        typer.Option(help="A consistency model: starter, a folder, a checkpoint, or a hub id.", show_default=False),
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA in place of the whole model.")] = False,
    recipe: t.Recipe = None,
    dry_run: t.DryRun = False,
) -> int:
    """Teach a few-step model your own pictures, without a teacher: it stays a model of few steps.

    **Examples**

    fewstep finetune --model starter --data ./my-drawings --lora --suffix ", my style" -o runs/my-style

    fewstep generate "owl, my style" --model starter --lora runs/my-style
    """
    return train_as_said("finetune", "model", model, ctx, output, lora=lora, recipe=recipe, dry_run=dry_run)
