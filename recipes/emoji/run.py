"""`fit` with a progress bar and an ETA on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from fewstep.train.config import FitConfig
from fewstep.train.loop import Objective, fit
from fewstep.train.state import TrainState


def run(
    model: nn.Module,
    objective: Objective,
    num_rows: int,
    config: FitConfig,
    folder: Path,
    on_checkpoint: Callable[[TrainState], None] | None = None,
) -> TrainState:
    """Train, resume, and show how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[loss]}")) as bar:
        task = bar.add_task(folder.name, total=config.pictures, loss="")

        def on_step(seen: int, scalars: dict[str, float]) -> None:
            bar.update(task, completed=seen, loss=f"loss {scalars['loss']:.4f}")

        return fit(model, objective, num_rows, config, folder, on_step=on_step, on_checkpoint=on_checkpoint)
