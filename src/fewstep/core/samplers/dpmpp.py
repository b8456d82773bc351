"""DPM-Solver++(2M) (Lu et al. 2022, 2211.01095): the line through this step's estimate of x_0 and the last one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.samplers.ode import ODESampler, SolverState
from fewstep.core.schedule import Schedule, Time, broadcast


@dataclass(frozen=True, eq=False)
class DPMSolverPP2M:
    """Extends x_0 along the line through this step's estimate and the last one's (Algorithm 2).

    Second order at one call a step. The first step and the one to clean data (infinite lambda) are DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 2

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise[Cond], x_t: Tensor, t: Time, s: Time, cond: Cond, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        log_snr_t, log_snr_s = self.schedule.log_snr(t), self.schedule.log_snr(s)
        x0 = mean = denoise(x_t, t, cond)
        if state is not None:
            half_ratio = 0.5 * (log_snr_s - log_snr_t) / (log_snr_t - state.log_snr)  # h_i / (2 h_{i-1})
            half_ratio = torch.where(half_ratio.isfinite(), half_ratio, 0.0)
            mean = x0 + broadcast(half_ratio, x0) * (x0 - state.x0)
        return self.schedule.transfer(x_t, mean, t, s), SolverState(x0, log_snr_t)


SAMPLER = ODESampler(
    name="dpm++",
    about="DPM-Solver++(2M), second order at one network call a step (diffusion models)",
    rank=0,
    scheduler="DPMSolverMultistepScheduler",
    solver=DPMSolverPP2M,
    multistep=True,
)
