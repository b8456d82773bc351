"""The sampler of flow maps: step by step diffusers', and exact at any number of steps with the exact map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import FlowMapEulerDiscreteScheduler
from torch import Tensor

from fewstep.core.prediction import Flow
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.flow_map import SAMPLER
from fewstep.core.schedule import Time
from fewstep.core.schedules import RectifiedFlow
from flow_world import CASES, assert_same, follow, profile, walk
from oracle import MixtureWorld


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize(("steps", "strength"), CASES)
def test_every_step_is_that_of_diffusers(steps: int, strength: float, shift: float) -> None:
    scheduler = FlowMapEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert_same(walk(profile(scheduler), "flow_map", steps, strength), follow(scheduler, strength))


@dataclass(frozen=True)
class ExactMap:
    """x_0 = z - s u with the exact mean velocity u(z_t, t, r) = (z_t - z_r) / (s_t - s_r) of a mixture's flow."""

    world: MixtureWorld

    def __call__(self, x_t: Tensor, t: Time, cond: Any, w: Any = None) -> Tensor:
        raise AssertionError("a flow map is asked about steps that end somewhere")

    def toward(self, r: Time) -> Callable[..., Tensor]:
        def denoise(x_t: Tensor, t: Time, cond: Any, w: Any = None) -> Tensor:
            s_t, s_r = self.world.schedule.sigma(t), self.world.schedule.sigma(r)
            return x_t - s_t * (x_t - self.world.flow(x_t, t, r)) / (s_t - s_r)

        return denoise


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_with_the_exact_map_every_number_of_steps_ends_where_the_flow_does(steps: int) -> None:
    world = MixtureWorld(RectifiedFlow(3.0))
    model = SamplingProfile.default("lcm", world.schedule, Flow())
    x_T = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    path = list(SAMPLER.walk(ExactMap(world), model, x_T, SAMPLER.times(model, steps), None, None, lambda _: x_T))
    assert [step.t for step in path[:-1]] == SAMPLER.times(model, steps).tolist()[1:]
    for step in path:
        torch.testing.assert_close(step.x_t, world.flow(x_T, 1000.0, step.t), rtol=0, atol=1e-6)
