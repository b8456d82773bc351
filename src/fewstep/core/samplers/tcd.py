"""Strategic stochastic sampling (TCD, Zheng et al. 2024, 2402.19159, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.base import Draw, Sampler, Step, falling
from fewstep.core.samplers.grids import consistency_timesteps, phased_timesteps
from fewstep.core.schedule import Schedule, broadcast


def sample_trajectory(
    denoise: Denoise[Cond],
    schedule: Schedule,
    x_T: Tensor,
    timesteps: Sequence[float] | Tensor,
    cond: Cond,
    w: float | Tensor | None = None,
    noise: Draw | None = None,
    *,
    gamma: float = 0.3,
    final_timestep: float = 0,
) -> Iterator[Step]:
    """For models that know where trajectories pass.

    On the way from t to s it steps down to (1 - gamma) s, on a table to the whole time below, and adds fresh noise up
    to s: gamma 0 draws none and follows the trajectory (PCM), gamma 1 is nearly `sample_consistency`.

    denoise         estimates x_0; the steps along the trajectory are taken here
    final_timestep  where the last step ends; 0 in diffusers' TCDScheduler

    Raises ValueError for times that do not fall, gamma outside [0, 1], or when there is no noise to draw.
    """
    times = falling(timesteps, schedule)
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must lie in [0, 1]; got {gamma}")
    if noise is None and gamma > 0 and len(times) > 1:
        raise ValueError(f"gamma {gamma:g} in {len(times)} steps draws noise between them: pass `noise`")
    x_t = x_T
    for index, (t, s) in enumerate(pairwise([*times, final_timestep])):
        x0 = denoise(x_t, t, cond, w)
        last = index == len(times) - 1
        below = s if last or noise is None else schedule.whole((1.0 - gamma) * s)
        x_t = schedule.transfer(x_t, x0, t, below) if below < t else x_t
        if noise is not None and below < s:
            ratio = schedule.alpha(s) / schedule.alpha(below)
            spread = (schedule.sigma(s) ** 2 - (ratio * schedule.sigma(below)) ** 2).sqrt()
            x_t = broadcast(ratio, x_t) * x_t + broadcast(spread, x_t) * noise(index)
        yield Step(index, len(times), s, x_t, x0)


@dataclass(frozen=True, kw_only=True)
class TCD(Sampler):
    """For consistency models, above all those of trajectories and of phases; gamma is the profile's.

    Along the trajectories of flows `flow_map` goes.
    """

    def accepts(self, profile: SamplingProfile) -> bool:
        return profile.kind == "lcm" and not profile.is_flow

    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        schedule, grid = profile.schedule, profile.grid.original_inference_steps
        if profile.phases > 1 and strength == 1.0:
            return phased_timesteps(schedule, num_steps, profile.phases, original_inference_steps=grid)
        return consistency_timesteps(schedule, num_steps, strength, original_inference_steps=grid)

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
        return sample_trajectory(denoise, profile.schedule, x_T, times, cond, w, draw, gamma=profile.gamma)


SAMPLER = TCD(
    name="tcd",
    about="along the trajectory, with as much fresh noise as gamma says (trajectory and phased models)",
    rank=50,
    scheduler="TCDScheduler",
    few_step=True,
    along=True,
)
