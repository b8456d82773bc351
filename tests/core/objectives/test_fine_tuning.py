"""Fine-tuning without a teacher: the same picture and noise at both times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewstep.core.denoise import Denoise
from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.objectives.ends import CleanData, PhaseEnds
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.samplers.grids import phase_ends
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

SD = DiscreteSchedule.from_betas()
GRID = SD.grid(50)
EVERY_INDEX = torch.arange(50)


class Itself(CleanData):
    """For an f that is given as such, and not as a denoiser."""

    def function(self, denoise: Denoise, *_: Any) -> Denoise:
        return denoise


class ItselfInPhases(PhaseEnds):
    def function(self, denoise: Denoise, *_: Any) -> Denoise:
        return denoise


def draw(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Spy:
    """A `Denoise` that notes what it was asked and answers with x_t times a weight."""

    weight: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64, requires_grad=True))
    seen: list[tuple[Tensor, Tensor, Any, Any]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        self.seen.append((x_t, t, cond, w))
        return x_t * self.weight


def loss_of(objective: FineTuning, f: Any, f_target: Any, **batch: Any) -> Any:
    return objective.loss(Networks(f, SD, f_target), Batch(times=EVERY_INDEX, **batch))


def test_consistency_training_noises_both_ends_alike() -> None:
    """Algorithm 4: the same x_0 and noise at t and at s; with all data at one point the exact f makes it zero."""
    f, target = Spy(), Spy()
    x_0, noise = draw(1), draw(2)
    w = torch.full((50,), 3.0)
    loss = loss_of(FineTuning(k=20, metric="l2", distilled=Itself()), f, target, x_0=x_0, noise=noise, cond="c", w=w)
    (x_t, t, *said), (x_s, s, *said_s) = f.seen[0], target.seen[0]
    assert s.tolist() == [0, *range(19, 980, 20)]
    assert said == said_s == ["c", w]
    torch.testing.assert_close((x_t - SD.alpha(t)[:, None] * x_0) / SD.sigma(t)[:, None], noise)
    torch.testing.assert_close((x_s - SD.alpha(s)[:, None] * x_0) / SD.sigma(s)[:, None], noise)
    loss.loss.backward()
    assert target.weight.grad is None
    point = torch.full_like(x_0, 0.3)
    exact = GaussianWorld(SD, s=0.0).f
    objective = FineTuning(k=20, metric="l2", distilled=Itself())
    assert float(loss_of(objective, exact, exact, x_0=point, noise=noise, cond=0.3).loss) < 1e-20


def test_no_pair_crosses_the_end_of_its_phase() -> None:
    ends = phase_ends(SD, 4)
    floor = ends[torch.searchsorted(ends, GRID) - 1]
    asked: list[Tensor] = []

    def f(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        asked.append(t)
        return x_t

    x = torch.zeros(50, 1)
    loss_of(FineTuning(k=200, distilled=ItselfInPhases(4)), f, f, x_0=x, noise=x, cond=None)
    s, t = asked
    assert bool(((s >= floor) & (floor < t)).all())
    assert set(s.tolist()) <= {0, 239, 499, 739} | {t - 200 for t in GRID.tolist()}
