"""Euler's method on a flow: step by step diffusers', and of first order on a mixture of Gaussians."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from fewstep.core.prediction import Flow
from fewstep.core.profile import SamplingProfile, Spacing
from fewstep.core.samplers.euler import SAMPLER
from fewstep.core.schedules import RectifiedFlow
from flow_world import CASES, assert_same, follow, profile, walk
from oracle import MixtureWorld


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("steps", "strength"), CASES)
def test_every_step_is_that_of_diffusers(steps: int, strength: float, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert_same(walk(profile(scheduler), "euler", steps, strength), follow(scheduler, strength))


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [256, 4096])
def test_with_a_shift_by_size_too(tokens: int, kind: str) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind, shift=3.0)
    scheduler.set_timesteps(8, mu=calculate_shift(tokens))
    assert_same(walk(profile(scheduler, tokens), "euler", 8, 0.6), follow(scheduler, 0.6))


@pytest.mark.parametrize("steps", [2, 8])
def test_with_a_terminal_sigma_too(steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.1)
    scheduler.set_timesteps(steps)
    ours = walk(profile(scheduler), "euler", steps, 1.0)
    assert ours[0][-1] == pytest.approx(100.0)
    assert_same(ours, follow(scheduler, 1.0))
    assert walk(profile(scheduler), "euler", 1, 1.0)[0] == [1000.0]  # where diffusers says NaN


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_with_the_sigmas_of_pipelines_that_bring_their_own(steps: int) -> None:
    """FLUX's 1 .. 1 / N."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1 / steps, steps).tolist())
    own = profile(scheduler)
    spaced = SamplingProfile.default("diffusion", own.schedule, Flow(), spacing=Spacing("trailing"))
    assert_same(walk(spaced, "euler", steps, 1.0), follow(scheduler, 1.0))


def test_halving_the_step_halves_the_error() -> None:
    world = MixtureWorld(RectifiedFlow())
    model = SamplingProfile.default("diffusion", world.schedule, Flow(), spacing=Spacing("trailing"))
    x_T = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    exact = world.flow(x_T, 1000.0, 0.0)

    def error(steps: int) -> float:
        *_, end = SAMPLER.walk(world.denoise, model, x_T, SAMPLER.times(model, steps), None, None, lambda _: x_T)
        return float((end.x_t - exact).square().mean().sqrt())

    errors = [error(steps) for steps in (40, 80, 160)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([1.0, 1.0], abs=0.15)
    assert errors[-1] < 0.01
