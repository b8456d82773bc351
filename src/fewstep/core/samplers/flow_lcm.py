"""Multistep consistency sampling on a rectified flow: x_0 = z - s v, then z' = (1 - s') x_0 + s' eps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.base import Draw, Sampler, Step
from fewstep.core.samplers.grids import flow_timesteps
from fewstep.core.samplers.lcm import sample_consistency


@dataclass(frozen=True, kw_only=True)
class FlowLCM(Sampler):
    """LCM's Algorithm 3 (2310.04378) without boundary scalings: f(z, 0) = z already. Its times are those of the ODE.

    Diffusion models may try it, too: an adapter may make a consistency model of one without saying so.
    """

    def accepts(self, profile: SamplingProfile) -> bool:
        return profile.is_flow

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
        return sample_consistency(denoise, profile.schedule, x_T, times, cond, w, draw)


SAMPLER = FlowLCM(
    name="flow_lcm",
    about="a clean picture at every step, and fresh noise for the next (consistency models of rectified flows)",
    rank=60,
    scheduler="FlowMatchLCMScheduler",
    few_step=True,
)
