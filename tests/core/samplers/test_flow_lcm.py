"""The consistency sampler of flows: step by step diffusers', and exact at any number of steps with the exact f."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler
from torch import Tensor

from fewstep.core.prediction import Flow
from fewstep.core.profile import SamplingProfile, Spacing
from fewstep.core.samplers.flow_lcm import SAMPLER
from fewstep.core.schedules import RectifiedFlow
from flow_world import CASES, assert_same, follow, profile, walk
from oracle import GaussianWorld

COUNT = 40_000


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("steps", "strength"), CASES)
def test_every_step_is_that_of_diffusers(steps: int, strength: float, shift: float) -> None:
    scheduler = FlowMatchLCMScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    theirs = follow(scheduler, strength, generator=torch.Generator().manual_seed(5))
    assert_same(walk(profile(scheduler), "flow_lcm", steps, strength), theirs)


def test_an_euler_scheduler_that_draws_noise_is_this_sampler() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    scheduler.set_timesteps(4)
    model = profile(scheduler)
    assert (model.kind, model.sampler) == ("lcm", "flow_lcm")
    assert_same(walk(model, "flow_lcm", 4, 1.0), follow(scheduler, 1.0, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_with_the_exact_f_every_number_of_steps_reaches_the_data(steps: int) -> None:
    """Four standard errors are allowed."""
    world = GaussianWorld(RectifiedFlow(3.0))
    model = SamplingProfile.default("lcm", world.schedule, Flow(), spacing=Spacing("trailing"))

    def draw(index: int) -> Tensor:
        return torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(1 + index), dtype=torch.float64)

    *_, end = SAMPLER.walk(world.f, model, draw(-1), SAMPLER.times(model, steps), 0.5, 2.0, draw)
    assert float(end.x_t.mean()) == pytest.approx(float(world.guided_mu(0.5, 2.0)), abs=4 * 0.7 / COUNT**0.5)
    assert float(end.x_t.std()) == pytest.approx(0.7, abs=4 * 0.7 / (2 * COUNT) ** 0.5)
