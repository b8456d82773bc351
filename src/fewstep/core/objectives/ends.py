"""Where the student's steps end, t_m: at clean data (LCM), at a phase's end (PCM), or at any earlier time (TCD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, Scalings, TrajectoryFunction
from fewstep.core.denoise import Cond, Denoise, toward
from fewstep.core.samplers.grids import phase_ends
from fewstep.core.schedule import Schedule

T_M_LAWS = ("uniform", "log_uniform")


@dataclass(frozen=True, eq=False)
class Times:
    """Of a pair of samples, each (B,): t_m <= t_n < t, in TCD's words (2402.19159, eq. 17).

    t    t_{n+k}: where the student is asked
    t_n  where its target is asked: k below, and not below the floor
    t_m  where both their steps end
    """

    t: Tensor
    t_n: Tensor
    t_m: Tensor

    def to(self, device: torch.device) -> Times:
        return Times(self.t.to(device), self.t_n.to(device), self.t_m.to(device))


class Ends(Protocol):
    """`drawn`: whether t_m is random."""

    drawn: ClassVar[bool]

    def floor(self, grid: Tensor, schedule: Schedule) -> Tensor:
        """The earliest t_n (and t_m) for each time of the grid."""
        ...

    def t_m(self, t: Tensor, t_n: Tensor, floor: Tensor, u: Tensor | None, schedule: Schedule) -> Tensor:
        """Where the step from t ends, at most at t_n; u (B,) in [0, 1) where it is random."""
        ...

    def function(self, denoise: Denoise[Cond], scalings: Scalings, schedule: Schedule, t_m: Tensor) -> Denoise[Cond]:
        """The step that is learnt: x_t at t to x at t_m."""
        ...


@dataclass(frozen=True)
class CleanData:
    """f(x_t, t), at t_m = 0 (LCM)."""

    drawn: ClassVar[bool] = False

    def floor(self, grid: Tensor, schedule: Schedule) -> Tensor:
        return torch.zeros_like(grid)

    def t_m(self, t: Tensor, t_n: Tensor, floor: Tensor, u: Tensor | None, schedule: Schedule) -> Tensor:
        return floor

    def function(self, denoise: Denoise[Cond], scalings: Scalings, schedule: Schedule, t_m: Tensor) -> Denoise[Cond]:
        return ConsistencyFunction(toward(denoise, schedule.clean), scalings)


@dataclass(frozen=True)
class PhaseEnds:
    """The end of the phase that t lies in (PCM, 2405.18407, eq. 8); two phases or more."""

    drawn: ClassVar[bool] = False
    phases: int

    def floor(self, grid: Tensor, schedule: Schedule) -> Tensor:
        ends = phase_ends(schedule, self.phases, original_inference_steps=len(grid))
        return ends[torch.searchsorted(ends, grid) - 1]

    def t_m(self, t: Tensor, t_n: Tensor, floor: Tensor, u: Tensor | None, schedule: Schedule) -> Tensor:
        return floor

    def function(self, denoise: Denoise[Cond], scalings: Scalings, schedule: Schedule, t_m: Tensor) -> Denoise[Cond]:
        return TrajectoryFunction(denoise, schedule, t_m)


@dataclass(frozen=True)
class AnyEarlierTime(PhaseEnds):
    """Any time between t_n and the end of the phase, which with one phase is clean data (TCD, 2402.19159, eq. 15).

    law  `uniform`: all alike (TCD). `log_uniform`: from the last tenth of the times all the way; from below by k to
         t - floor, uniformly in the logarithm
    """

    drawn: ClassVar[bool] = True
    phases: int = 1
    law: str = "uniform"

    def t_m(self, t: Tensor, t_n: Tensor, floor: Tensor, u: Tensor | None, schedule: Schedule) -> Tensor:
        if u is None:
            raise ValueError("the ends of trajectories are random: draw u")
        real = t.is_floating_point()
        if self.law == "uniform":
            return floor + (u * (t_n - floor) if real else (u * (t_n - floor + 1)).long())
        shortest, longest = (t - t_n).double(), (t - floor).double()
        shortest = shortest if real else shortest.clamp(min=1)
        jump = shortest * (longest / shortest) ** u.double()
        t_m = (t - (jump if real else jump.round().long())).clamp(min=floor, max=t_n)
        return torch.where(schedule.tau(t) > 0.9, floor, t_m)
