"""Multistep consistency sampling (LCM, Luo et al. 2023, 2310.04378, Algorithm 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, scalings_of
from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.base import Draw, Sampler, Step, falling
from fewstep.core.samplers.grids import consistency_timesteps
from fewstep.core.schedule import Schedule


def sample_consistency(
    f: Denoise[Cond],
    schedule: Schedule,
    x_T: Tensor,
    timesteps: Sequence[float] | Tensor,
    cond: Cond,
    w: float | Tensor | None = None,
    noise: Draw | None = None,
) -> Iterator[Step]:
    """x_0 = f(x_t, t), then noise up to the next time, and so on.

    x_T        (B, ...): a sample at timesteps[0], for example unit noise at the last time of the schedule
    timesteps  falling; for an LCM, `grids.consistency_timesteps`
    noise      noise(index) -> fresh unit noise like x_T, asked for after step `index`, never after the last

    Raises ValueError for times that do not fall, or when several steps have no noise to draw.
    """
    times = falling(timesteps, schedule)
    if noise is None and len(times) > 1:
        raise ValueError(f"consistency sampling in {len(times)} steps draws noise between them: pass `noise`")
    x_t = x_T
    for index, (t, s) in enumerate(pairwise([*times, schedule.clean])):
        x0 = f(x_t, t, cond, w)
        x_t = x0 if s == schedule.clean or noise is None else schedule.add_noise(x0, noise(index), s)
        yield Step(index, len(times), s, x_t, x0)


@dataclass(frozen=True, kw_only=True)
class LCM(Sampler):
    """For consistency models. Others may try it, too: an adapter may make one of them without saying so.

    Flows have their own (`flow_lcm`), whose times lie elsewhere.
    """

    def accepts(self, profile: SamplingProfile) -> bool:
        return not profile.is_flow

    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        grid = profile.grid.original_inference_steps
        return consistency_timesteps(profile.schedule, num_steps, strength, original_inference_steps=grid)

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
        f = ConsistencyFunction(denoise, scalings_of(profile.schedule, profile.grid.timestep_scaling))
        return sample_consistency(f, profile.schedule, x_T, times, cond, w, draw)


SAMPLER = LCM(
    name="lcm",
    about="a clean picture at every step, and fresh noise for the next (latent consistency models)",
    rank=40,
    scheduler="LCMScheduler",
    few_step=True,
)
