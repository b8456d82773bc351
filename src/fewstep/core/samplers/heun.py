"""Heun's method (Karras et al. 2022, 2206.00364, Algorithm 1): a trapezoidal rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.ode import ODESampler, SolverState
from fewstep.core.schedule import Schedule, Time, broadcast


@dataclass(frozen=True, eq=False)
class Heun:
    """Takes DDIM's step, asks again at its end, and steps once more with both answers: a trapezoidal rule.

    Karras et al. take the mean of eps, the rule over sigma / alpha; it has no value at pure noise. The mean of x_0 is
    the rule over u = alpha / sigma; it is poor near clean data. Here it is the former where u > 1 and the latter where
    u < 1: x_0 + max(u_s, 1) / max(u_t, 1) (x_0' - x_0) / 2, with x_0' the answer at s.
    Second order at two calls a step; the step to clean data is DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 2

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise[Cond], x_t: Tensor, t: Time, s: Time, cond: Cond, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        x_s, first = DDIM(self.schedule).step(denoise, x_t, t, s, cond, state)
        if not isinstance(s, Tensor) and s == self.schedule.clean:
            return x_s, first
        u_t, u_s = (self.schedule.alpha(time) / self.schedule.sigma(time) for time in (t, s))
        weight = 0.5 * u_s.clamp(min=1) / u_t.clamp(min=1)
        weight = torch.where(weight.isfinite(), weight, 0.0)
        mean = first.x0 + broadcast(weight, x_t) * (denoise(x_s, s, cond) - first.x0)
        return self.schedule.transfer(x_t, mean, t, s), SolverState(mean, first.log_snr)


SAMPLER = ODESampler(
    name="heun",
    about="second order at two network calls a step (diffusion models)",
    rank=30,
    scheduler="HeunDiscreteScheduler",
    solver=Heun,
    calls=2,
)
