"""`fewstep finetune`: a few-step model learns new pictures, without a teacher (latent consistency fine-tuning)."""

from __future__ import annotations

from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import configured, given, run


def finetune(
    output: t.Output,
    model: Annotated[
        str | None,
        typer.Option(help="A consistency model: starter, a folder, a checkpoint, or a hub id.", show_default=False),
    ] = None,
    data: t.Data = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA in place of the whole model.")] = False,
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
    metric: t.Metric = None,
    k: t.K = None,
    grid: t.Grid = None,
    target: t.Target = None,
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
    """Teach a few-step model your own pictures, without a teacher: it stays a model of few steps.

    **Examples**

    fewstep finetune --model starter --data ./my-drawings --lora --suffix ", my style" -o runs/my-style

    fewstep generate "owl, my style" --model starter --lora runs/my-style
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
        "consistency.metric": metric,
        "consistency.k": k,
        "consistency.original_inference_steps": grid,
        "consistency.target": target,
    }
    name, source = given("model", model, recipe), given("data", data, recipe)
    config = configured(recipe, lambda: default_config("finetune", name, source, lora=lora), values, lora=lora)
    return run(config, output, dry_run, measure)
