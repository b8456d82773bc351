"""Euler's method on a rectified flow (Liu et al. 2022, 2209.03003): the velocity is held over the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.base import Draw, Sampler, Step
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.grids import flow_timesteps
from fewstep.core.samplers.ode import sample_ode


@dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """z' = z + (s' - s) v, with v = (z - x_0) / s, which on a flow is DDIM's step. First order."""

    def accepts(self, profile: SamplingProfile) -> bool:
        return profile.is_flow and profile.kind == "diffusion"

    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        return flow_timesteps(profile.schedule, num_steps, strength, spacing=profile.spacing)

    def walk(
        self,
        denoise: Denoise[Cond],
        profile: SamplingProfile,
        x_T: Tensor,
        times: Sequence[float] | Tensor,
        cond: Cond,
        w: float | Tensor | None,
        draw: Draw,
    ) -> Iterator[Step]:
        return sample_ode(DDIM(profile.schedule), denoise, x_T, times, cond)


SAMPLER = Euler(
    name="euler",
    about="first order, along the velocity (rectified flows: SD3, FLUX, SANA)",
    rank=15,
    scheduler="FlowMatchEulerDiscreteScheduler",
)
