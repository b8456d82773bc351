"""Training with a progress bar and an ETA on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer
from torch import nn

from fewstep.cli import training
from fewstep.train.config import FitConfig, RunConfig
from fewstep.train.loop import fit
from fewstep.train.state import TrainState
from fewstep.train.task import D, Task


def run(
    model: nn.Module,
    objective: Task[D],
    num_rows: int,
    config: FitConfig,
    folder: Path,
    on_checkpoint: Callable[[TrainState], None] | None = None,
    before_step: Callable[[TrainState], bool] | None = None,
) -> TrainState:
    """`fit` with a bar; it goes on where it stopped."""
    with training.training_bars() as bar:
        task = bar.add_task(folder.name, total=config.pictures, note="")

        def on_step(seen: int, scalars: dict[str, float]) -> None:
            bar.update(task, completed=seen, note=f"loss {scalars['loss']:.4f}")

        return fit(
            model,
            objective,
            num_rows,
            config,
            folder,
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            before_step=before_step,
        )


def run_as_command(config: RunConfig, folder: Path) -> None:
    """As `fewstep distill` and its like do it; an interrupt, which leaves a checkpoint, ends the recipe."""
    if code := training.run(config, folder, dry_run=False, measures=None):
        raise typer.Exit(code)
