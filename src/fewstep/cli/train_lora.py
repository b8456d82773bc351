"""`fewstep train-lora`: an ordinary style LoRA, trained on a diffusion model."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import configured, given, run


def train_lora(
    output: t.Output,
    model: Annotated[
        str | None,
        typer.Option(
            help="A diffusion model: starter-teacher, a folder, a checkpoint, or a hub id.", show_default=False
        ),
    ] = None,
    data: t.Data = None,
    recipe: t.Recipe = None,
    dry_run: t.DryRun = False,
    size: t.Size = None,
    buckets: t.Buckets = None,
    flip: t.Flip = None,
    suffix: t.Suffix = None,
    image_column: t.ImageColumn = None,
    caption_column: t.CaptionColumn = None,
    pictures: t.Pictures = None,
    batch_size: t.BatchSize = None,
    accumulate: t.Accumulate = None,
    lr: t.Lr = None,
    optimizer: t.OptimizerName = None,
    precision: t.Precision = None,
    checkpointing: t.Checkpointing = None,
    seed: t.Seed = None,
    rank: t.Rank = None,
    alpha: t.Alpha = None,
    empty: t.Empty = None,
    prompt: t.Prompts = None,
    steps: t.Steps = None,
    every: t.Every = None,
    measure: t.Measures = None,
    best: t.Best = None,
    patience: t.Patience = None,
    tensorboard: t.TensorBoard = None,
    device: t.Device = None,
    minutes: t.Minutes = None,
    checkpoint_minutes: t.CheckpointMinutes = None,
) -> int:
    """Train an ordinary LoRA on a diffusion model; stacked with an LCM-LoRA it paints in few steps.

    **Examples**

    fewstep train-lora --model starter-teacher --data ./ink --suffix ", ink style" -o runs/ink

    fewstep generate "owl, ink style" --model starter-teacher --lora runs/ink --lora runs/lcm-lora --steps 4
    """
    from fewstep.train.defaults import default_config

    values = {
        "model": model,
        "data.source": data,
        "data.size": t.size_of(size),
        "data.buckets": buckets,
        "data.flip": flip,
        "data.suffix": suffix,
        "data.image_column": image_column,
        "data.caption_column": caption_column,
        "fit.pictures": pictures,
        "fit.batch_size": batch_size,
        "fit.accumulate": accumulate,
        "fit.lr": lr,
        "fit.optimizer": optimizer,
        "fit.precision": precision,
        "fit.seed": seed,
        "fit.minutes": minutes,
        "fit.checkpoint_minutes": checkpoint_minutes,
        "lora.rank": rank,
        "lora.alpha": alpha,
        "consistency.empty": empty,
        "watch.prompts": tuple(prompt) if prompt else None,
        "watch.steps": t.numbers_of(steps),
        "watch.every": every,
        "watch.best": best,
        "watch.patience": patience,
        "watch.tensorboard": tensorboard,
        "checkpointing": checkpointing,
        "device": device,
    }
    name, source = given("model", model, recipe), given("data", data, recipe)
    config = configured(recipe, lambda: default_config("style", name, source, lora=True), values)
    return run(config, output, dry_run, measure)
