"""DDIM (Song et al. 2021, 2010.02502): the estimate of x_0 is held over the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.ode import ODESampler, SolverState
from fewstep.core.schedule import Schedule, Time


@dataclass(frozen=True, eq=False)
class DDIM:
    """Holds x_0 constant over the step (eq. 12 with eta = 0). First order."""

    schedule: Schedule
    order: ClassVar[int] = 1

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise[Cond], x_t: Tensor, t: Time, s: Time, cond: Cond, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        x0 = denoise(x_t, t, cond)
        return self.schedule.transfer(x_t, x0, t, s), SolverState(x0, self.schedule.log_snr(t))


@dataclass(frozen=True, kw_only=True)
class DDIMSampler(ODESampler):
    """Ends where the model's own DDIM does. On a flow its step is Euler's, which has a sampler of its own."""

    def accepts(self, profile: SamplingProfile) -> bool:
        return super().accepts(profile) and not profile.is_flow

    def end(self, profile: SamplingProfile) -> float | None:
        return profile.spacing.final_timestep


SAMPLER = DDIMSampler(
    name="ddim",
    about="first order, the plainest (diffusion models)",
    rank=20,
    scheduler="DDIMScheduler",
    solver=DDIM,
)
