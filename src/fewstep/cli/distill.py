"""`fewstep distill`: a slow model becomes one of few steps (latent consistency distillation)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.training import configured, given, run
from fewstep.core.samplers import SOLVERS


def distill(
    output: t.Output,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id.",
            show_default=False,
        ),
    ] = None,
    data: t.Data = None,
    lora: Annotated[bool, typer.Option("--lora", help="An LCM-LoRA in place of a whole model.")] = False,
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
    guidance: Annotated[
        str | None,
        t.option(
            "--guidance",
            help="The guidance scales to learn: a range (1:9) that the student is told, one (7.5), or none. "
            "[default: by the teacher's own scale]",
            panel=t.HOW,
        ),
    ] = None,
    solver: Annotated[
        str | None,
        t.option("--solver", help=f"The teacher's: {', '.join(sorted(SOLVERS))}. [default: ddim]", panel=t.HOW),
    ] = None,
    substeps: Annotated[
        int | None, t.option("--substeps", help="Of the solver, for each target. [default: 1]", panel=t.HOW)
    ] = None,
    metric: t.Metric = None,
    k: t.K = None,
    grid: t.Grid = None,
    target: Annotated[
        str | None,
        t.option(
            "--target",
            help="What the student is held against: itself (student), its average (ema), or whole paths of the teacher "
            "(path; brings its own sizes, where there is no --recipe). [default: student]",
            panel=t.HOW,
        ),
    ] = None,
    phases: Annotated[
        int | None,
        t.option("--phases", help="In place of trajectories, with huber and k 20; 1 is LCM's own way.", panel=t.HOW),
    ] = None,
    trajectory: Annotated[
        bool | None,
        t.option(
            "--trajectory/--no-trajectory",
            help="Learn to reach all earlier times, walked by TCD's sampler. [default: where no --phases are given]",
            panel=t.HOW,
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        t.option("--gamma", help="Fresh noise in TCD's sampler, 0 to 1. [default: 0]", panel=t.HOW),
    ] = None,
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
    """Distil a diffusion model into one of 1 to 8 steps, from your own pictures; all of it is resumable.

    The run's folder gets sheets of samples, a report (report.html), checkpoints, and at the end the model (model/), or
    with --lora the adapter, in diffusers' and in kohya's spelling.

    **Examples**

    fewstep distill --teacher starter-teacher --data ./pictures -o runs/fast

    fewstep distill --teacher ./stable-diffusion-v1-5 --data ./pictures --lora --precision bfloat16 -o runs/lcm-lora
    """
    from fewstep.train.defaults import default_config

    values = {
        "model": teacher,
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
        "consistency.w_range": t.w_range_of(guidance),
        "consistency.solver": solver,
        "consistency.substeps": substeps,
        "consistency.metric": metric,
        "consistency.k": k,
        "consistency.original_inference_steps": grid,
        "consistency.target": target,
        "consistency.phases": phases,
        "consistency.trajectory": trajectory,
        "consistency.gamma": gamma,
    }
    model, source = given("teacher", teacher, recipe), given("data", data, recipe)
    start = partial(
        default_config, "distill", model, source, lora=lora, target=target, phases=phases, trajectory=trajectory
    )
    config = configured(recipe, start, values, lora=lora)
    return run(config, output, dry_run, measure)
