"""Any-step sampling with a flow map (AnyFlow, 2605.13724): z_r = z_t - (t - r) u(z_t, t, r), for any r below t."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise, toward
from fewstep.core.profile import SamplingProfile, Spacing
from fewstep.core.samplers.base import Draw, Sampler, Step, falling
from fewstep.core.samplers.grids import flow_timesteps
from fewstep.core.schedule import Schedule

EVENLY = Spacing("trailing")  # from pure noise to 1 / N of the way


def sample_flow_map(
    denoise: Denoise[Cond],
    schedule: Schedule,
    x_T: Tensor,
    timesteps: Sequence[float] | Tensor,
    cond: Cond,
    w: float | Tensor | None = None,
) -> Iterator[Step]:
    """From each time along the chord to the next, and at last to clean data; draws no noise.

    denoise  says where the chord leads: x_0 = z - s u. It is told where the step ends, if it reads that
             (`denoise.Toward`)

    Raises ValueError for times that do not fall.
    """
    times = falling(timesteps, schedule)
    x_t = x_T
    for index, (t, r) in enumerate(pairwise([*times, schedule.clean])):
        x0 = toward(denoise, r)(x_t, t, cond, w)
        x_t = schedule.transfer(x_t, x0, t, r)
        yield Step(index, len(times), r, x_t, x0)


@dataclass(frozen=True, kw_only=True)
class FlowMap(Sampler):
    """For models of trajectories on a rectified flow: one serves any number of steps."""

    def accepts(self, profile: SamplingProfile) -> bool:
        return profile.is_flow and profile.kind == "lcm"

    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        return flow_timesteps(profile.schedule, num_steps, strength, spacing=EVENLY)

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
        return sample_flow_map(denoise, profile.schedule, x_T, times, cond, w)


SAMPLER = FlowMap(
    name="flow_map",
    about="along the trajectory in any number of steps, without fresh noise (trajectory models of rectified flows)",
    rank=70,
    scheduler="FlowMapEulerDiscreteScheduler",
    few_step=True,
    along=True,
)
