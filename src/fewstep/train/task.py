"""What the loop descends: an objective over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from fewstep.core.objectives.base import Batch, Draw, Loss, Networks, Objective
from fewstep.core.schedule import Schedule
from fewstep.data.latents import LatentCache
from fewstep.errors import InvalidConfig
from fewstep.models.conditioning import Conditioning


class Drawn(Protocol):
    """All that is random about a batch, on the CPU, so that every process draws the same and takes its part."""

    def __getitem__(self, part: slice[int, int, int | None], /) -> Self: ...

    def tensors(self) -> Mapping[str, Tensor]:
        """What is kept of a batch whose loss diverged."""
        ...


D = TypeVar("D", bound=Drawn)


class Task(Protocol[D]):
    """`draw` says what is random about a batch of rows, and `loss` computes a part of it: scalars by name, of which
    `loss` has the gradient."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> D: ...

    def loss(self, drawn: D) -> dict[str, Tensor]: ...


@dataclass(frozen=True, eq=False)
class OverCache:
    """An objective, the networks that it asks, and the data that it draws from."""

    objective: Objective
    networks: Networks[Conditioning]
    cache: LatentCache
    device: torch.device | str = "cpu"

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draw:
        return self.objective.draw(rows, self.cache, self.networks.schedule, generator)

    def batch(self, drawn: Draw) -> Batch[Conditioning]:
        """What was drawn with its data, on the device."""
        x_0, noise = (x.to(self.device) for x in (self.cache.latents[drawn.rows].float(), drawn.noise))
        cond = self.cache.conditioning(drawn.captions, drawn.rows, self.device)
        w = None if drawn.w is None else drawn.w.to(self.device)
        return Batch(x_0, noise, drawn.times, cond, self.cache.unconditional(cond), w, drawn.u)

    def loss(self, drawn: Draw) -> dict[str, Tensor]:
        return scalars(self.objective.loss(self.networks, self.batch(drawn)), self.networks.schedule)


@dataclass(frozen=True)
class Undrawn:
    """Rows, and the generator that the loss draws from as it goes."""

    rows: Tensor
    generator: torch.Generator

    def __getitem__(self, part: slice[int, int, int | None]) -> Undrawn:
        if len(self.rows[part]) < len(self.rows):
            raise InvalidConfig("this loss is of the whole batch and cannot be divided: use accumulate=1, one process")
        return self

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows}


@dataclass(frozen=True)
class Undivided:
    """A task whose loss is of a whole batch, and draws as it goes: one process computes it, in one part."""

    loss_of: Callable[[Tensor, torch.Generator], dict[str, Tensor]]

    def draw(self, rows: Tensor, generator: torch.Generator) -> Undrawn:
        return Undrawn(rows, generator)

    def loss(self, drawn: Undrawn) -> dict[str, Tensor]:
        return self.loss_of(drawn.rows, drawn.generator)


def scalars(result: Loss, schedule: Schedule) -> dict[str, Tensor]:
    """What a step reports: the loss, and its mean in each quarter of the noise scale."""
    by_time = _by_time(result.per_sample.detach().cpu(), result.t, total=schedule.last - schedule.clean)
    return {"loss": result.loss, **by_time}


def _by_time(per_sample: Tensor, t: Tensor, bins: int = 4, total: float = 1000) -> dict[str, Tensor]:
    """The mean loss in each quarter of the noise scale; NaN-free: an empty quarter repeats the batch's mean."""
    quarter = (t * bins // total).clamp(max=bins - 1)
    means = [per_sample[quarter == i] for i in range(bins)]
    return {f"loss_q{i + 1}": (m.mean() if len(m) else per_sample.mean()) for i, m in enumerate(means)}
