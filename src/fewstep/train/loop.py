"""The loop: draw a batch, descend, average, log, checkpoint; the same call again goes on where the last one stopped."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from fewstep.data.order import grouped_rows_at, rows_at
from fewstep.errors import FewstepError, InvalidConfig, NotInstalled
from fewstep.files import replacing, write_tensors
from fewstep.train.config import FitConfig
from fewstep.train.log import RunLog
from fewstep.train.muon import Muon
from fewstep.train.processes import Processes
from fewstep.train.sharding import whole
from fewstep.train.state import AveragedTarget, TrainState, trained
from fewstep.train.task import D, Task

DIVERGED = "diverged"
STEPS_IN_MEAN = 50  # of the loss, before an explosion is called one


class TrainingDiverged(FewstepError):
    """The loss is NaN, infinite or exploded; the message names the last good checkpoint and the batch."""


@dataclass(frozen=True, eq=False)
class _Run(Generic[D]):
    """What every step needs."""

    state: TrainState
    task: Task[D]
    num_rows: int
    config: FitConfig
    folder: Path
    processes: Processes
    groups: Sequence[Tensor] = ()
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS_IN_MEAN))
    lowest: list[float] = field(default_factory=lambda: [math.inf])


def fit(
    model: nn.Module,
    task: Task[D],
    num_rows: int,
    config: FitConfig,
    folder: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
    target: AveragedTarget | None = None,
    processes: Processes | None = None,
    before_step: Callable[[TrainState], bool] | None = None,
    groups: Sequence[Tensor] = (),
) -> TrainState:
    """Train `model` by `task` over a data set of `num_rows` and return its state; resumes from `folder`.

    `on_step` is called with the pictures seen and the step's scalars: the place for a progress bar.
    `on_checkpoint` is called after every checkpoint: the place for sample sheets and measures.
    `before_step` is called before every step: the place for what is due by pictures seen; where it returns True, that
    step is the last, and a checkpoint follows it.
    `groups` are the rows that may share a batch, where not all may.
    Raises TrainingDiverged when the loss is not finite; the checkpoint before it stays.
    """
    processes = processes or Processes()
    _check_divisible(config, processes)
    scaler = _scaler(model, config)
    state = TrainState(model, _optimizer(model, config), target, scaler)
    state.resume(folder)
    run = _Run(state, task, num_rows, config, folder, processes, groups)
    model.train()
    started = saved = time.monotonic()
    with RunLog(folder, state.seen, writes=processes.is_main) as log:
        while state.seen < config.pictures:
            asked = before_step is not None and before_step(state)
            late = config.minutes is not None and time.monotonic() - started >= 60 * config.minutes
            scalars, stop = _step(run, asked or late)
            log.write(state.seen, scalars)
            if on_step:
                on_step(state.seen, scalars)
            now = time.monotonic()
            if stop or state.seen >= config.pictures or now - saved >= 60 * config.checkpoint_minutes:
                if processes.is_main or processes.shards:
                    state.save(folder, writes=processes.is_main)
                saved = now
                if on_checkpoint:
                    on_checkpoint(state)
            if stop:
                break
    return state


def _step(run: _Run[D], stop: bool) -> tuple[dict[str, float], bool]:
    """One step of the optimiser; returns its scalars, and whether any process wants to stop after it."""
    state, config = run.state, run.config
    generator = torch.Generator().manual_seed(hash((config.seed, state.seen)) & 0xFFFFFFFF)
    rows = _rows(run)
    draw = run.task.draw(rows, generator)
    parts = _parts(run, draw)
    rows_of_scalars = [_descend(run, part, len(parts)) for part in parts]
    means = {name: sum(each[name] for each in rows_of_scalars) / len(parts) for name in rows_of_scalars[0]}
    means, stop = _agreed(run, means, stop)
    _check_loss(run, means["loss"], draw)
    weights = list(trained(state.model).values())
    if not run.processes.shards:  # which averages as it divides
        run.processes.average([weight.grad for weight in weights if weight.grad is not None])
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    norm = whole(nn.utils.clip_grad_norm_(weights, config.clip))
    rate = config.rate(state.seen)
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * rate
    if state.scaler is None:
        state.optimizer.step()
    else:
        state.scaler.step(state.optimizer)
        state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)  # before samples need the room
    state.seen += config.batch_size
    if state.target is not None:
        state.target.update()
    state.update_ema(config.ema_decay(state.seen))
    return means | {"grad_norm": float(norm), "rate": rate}, stop


def _rows(run: _Run[D]) -> Tensor:
    """The rows (B,) of the next batch."""
    place = {"seen": run.state.seen, "batch_size": run.config.batch_size, "seed": run.config.seed}
    return (
        grouped_rows_at(groups=run.groups, **place) if len(run.groups) > 1 else rows_at(num_rows=run.num_rows, **place)
    )


def _parts(run: _Run[D], draw: D) -> list[D]:
    """This process's parts of what was drawn for the whole batch."""
    config, processes = run.config, run.processes
    size = config.batch_size // processes.count // config.accumulate
    first = processes.rank * config.accumulate
    return [draw[size * (first + i) : size * (first + i + 1)] for i in range(config.accumulate)]


def _descend(run: _Run[D], part: D, parts: int) -> dict[str, float]:
    """Forwards and backwards through one part of the batch."""
    device = next(run.state.model.parameters()).device.type
    dtype = getattr(torch, run.config.precision)
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32), _attention(device, dtype):
        scalars = run.task.loss(part)
    loss = scalars["loss"] / parts
    (loss if run.state.scaler is None else run.state.scaler.scale(loss)).backward()
    return {name: float(value.detach()) for name, value in scalars.items()}


def _attention(device: str, dtype: torch.dtype) -> AbstractContextManager[None]:
    """On a CPU in bfloat16, attention as plain products: the gradient of torch's fused one takes half a step there."""
    plain = device == "cpu" and dtype is torch.bfloat16
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _agreed(run: _Run[D], scalars: dict[str, float], stop: bool) -> tuple[dict[str, float], bool]:
    """The means over all processes, so that all of them log, stop and fail together."""
    if run.processes.count == 1:
        return scalars, stop
    device = next(run.state.model.parameters()).device
    together = torch.tensor([*scalars.values(), float(stop)], device=device)
    run.processes.average([together])
    *values, stopping = together.tolist()
    return dict(zip(scalars, values, strict=True)), stopping > 0


def _check_loss(run: _Run[D], loss: float, draw: D) -> None:
    """Raises `TrainingDiverged`, with the batch and the settings on the disk, before the weights are touched."""
    run.losses.append(loss)
    mean = sum(run.losses) / len(run.losses)
    factor = run.config.explosion
    exploded = factor is not None and len(run.losses) == STEPS_IN_MEAN and mean > factor * run.lowest[0]
    if math.isfinite(loss) and not exploded:
        if len(run.losses) == STEPS_IN_MEAN:
            run.lowest[0] = min(run.lowest[0], mean)
        return
    seen = run.state.seen
    if run.processes.is_main:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(run.folder / f"{DIVERGED}.safetensors", dict(draw.tensors()))
        facts = {"seen": seen, "loss": repr(loss), "losses": [repr(each) for each in run.losses]}
        text = json.dumps(facts | {"config": asdict(run.config)}, indent=2)
        with replacing(run.folder / f"{DIVERGED}.json") as partial:
            partial.write_text(text + "\n")
    what = f"{mean:g}, {factor:g} times the lowest that it was," if exploded else f"{loss}"
    raise TrainingDiverged(
        f"the loss is {what} after {seen} pictures; the last checkpoint in {run.folder} is good, and the batch is kept "
        f"in {DIVERGED}.safetensors: lower the learning rate and run again"
    )


def _check_divisible(config: FitConfig, processes: Processes) -> None:
    parts = config.accumulate * processes.count
    if config.batch_size % parts:
        raise InvalidConfig(
            f"batch_size={config.batch_size} must be a multiple of {parts}: {processes.count} processes, each with "
            f"accumulate={config.accumulate} parts"
        )
    if processes.shards and (config.optimizer != "adamw" or config.precision == "float16"):
        raise InvalidConfig(
            f"optimizer={config.optimizer} with precision={config.precision} cannot learn weights that are divided "
            "among processes: use adamw, and float32 or bfloat16"
        )


def _scaler(model: nn.Module, config: FitConfig) -> torch.amp.GradScaler | None:
    """float16 gradients would vanish below 6e-8: they are scaled up, and the scale finds itself."""
    device = next(model.parameters()).device.type
    return torch.amp.GradScaler(device, init_scale=2.0**14) if config.precision == "float16" else None


def _optimizer(model: nn.Module, config: FitConfig) -> Optimizer:
    optimizer: Optimizer
    weights = list(trained(model).values())
    if config.optimizer == "muon":
        optimizer = Muon(model, lr=config.lr, adam_lr=config.adam_lr, weight_decay=config.weight_decay)
    elif config.optimizer == "adamw8bit":
        if find_spec("bitsandbytes") is None:
            raise NotInstalled("the 8-bit optimiser needs bitsandbytes; install it with: pip install bitsandbytes")
        from bitsandbytes.optim import AdamW8bit

        optimizer = AdamW8bit(weights, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    else:
        fused = weights[0].device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(
            weights, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=fused
        )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def batches_of(config: FitConfig, processes: Processes) -> Iterator[tuple[str, int]]:
    """How a batch is divided, for people: (what, how many)."""
    yield "pictures a step", config.batch_size
    yield "processes", processes.count
    yield "parts a process", config.accumulate
    yield "pictures at once", config.batch_size // processes.count // config.accumulate
