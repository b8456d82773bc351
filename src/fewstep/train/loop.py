"""The loop: draw a batch, descend, average, log, checkpoint; the same call again goes on where the last one stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewstep.data.order import rows_at
from fewstep.errors import FewstepError
from fewstep.train.config import FitConfig
from fewstep.train.log import RunLog
from fewstep.train.muon import Muon
from fewstep.train.state import TrainState


class TrainingDiverged(FewstepError):
    """The loss became NaN or infinite; the message names the last good checkpoint."""


class Objective(Protocol):
    """What is descended: rows (B,) of the data set and a generator in, named scalars out; `loss` has the gradient."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]: ...


def fit(
    model: nn.Module,
    objective: Objective,
    num_rows: int,
    config: FitConfig,
    folder: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
) -> TrainState:
    """Train `model` by `objective` over a data set of `num_rows` and return its state; resumes from `folder`.

    `on_step` is called with the pictures seen and the step's scalars: the place for a progress bar.
    `on_checkpoint` is called after every checkpoint: the place for sample sheets and measures.
    Raises TrainingDiverged when the loss is not finite; the checkpoint before it stays.
    """
    state = TrainState(model, _optimizer(model, config))
    state.resume(folder)
    model.train()
    started = saved = time.monotonic()
    with RunLog(folder, state.seen) as log:
        while state.seen < config.pictures:
            scalars = _step(state, objective, num_rows, config, folder)
            log.write(state.seen, scalars)
            if on_step:
                on_step(state.seen, scalars)
            now = time.monotonic()
            late = config.minutes is not None and now - started >= 60 * config.minutes
            if late or state.seen >= config.pictures or now - saved >= 60 * config.checkpoint_minutes:
                state.save(folder)
                saved = now
                if on_checkpoint:
                    on_checkpoint(state)
            if late:
                break
    return state


def _step(state: TrainState, objective: Objective, num_rows: int, config: FitConfig, folder: Path) -> dict[str, float]:
    generator = torch.Generator().manual_seed(hash((config.seed, state.seen)) & 0xFFFFFFFF)
    rows = rows_at(state.seen, config.batch_size, num_rows, seed=config.seed)
    scalars = objective(rows, generator)
    loss = scalars["loss"]
    if not math.isfinite(float(loss.detach())):
        raise TrainingDiverged(
            f"the loss is {float(loss.detach())} after {state.seen} pictures; the last checkpoint in {folder} is good: "
            "lower the learning rate and run again"
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    rate = config.rate(state.seen)
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * rate
    state.optimizer.step()
    state.seen += config.batch_size
    state.update_ema(config.ema_decay(state.seen))
    return {name: float(value.detach()) for name, value in scalars.items()} | {
        "grad_norm": float(norm),
        "rate": rate,
    }


def _optimizer(model: nn.Module, config: FitConfig) -> Optimizer:
    optimizer: Optimizer
    if config.optimizer == "muon":
        optimizer = Muon(model, lr=config.lr, adam_lr=config.adam_lr, weight_decay=config.weight_decay)
    else:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(
            weights, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=fused
        )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer
