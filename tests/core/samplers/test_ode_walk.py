"""Walks along the ODE: when they ask, and the distribution that they reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.base import Step
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.grids import ode_timesteps
from fewstep.core.samplers.ode import sample_ode
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld, MixtureWorld

SD = DiscreteSchedule.from_betas()
ZERO_SNR = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
COUNT = 40_000


def noise_from(seed: int, count: int = COUNT) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(steps: Any) -> Step:
    return list(steps)[-1]


@pytest.mark.parametrize("name", SOLVERS)
def test_ode_sampling_reproduces_mean_and_deviation(name: str) -> None:
    """Fifty steps; beyond the sampling error, the solver's own: DDIM's deviation is 4 % too small."""
    world = GaussianWorld(ZERO_SNR)
    result = last(sample_ode(SOLVERS[name](ZERO_SNR), world.denoise, noise_from(0), ode_timesteps(SD, 50), 0.5)).x_t
    assert float(result.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(result.std()) == pytest.approx(0.7, abs=0.035)


@pytest.mark.parametrize("name", SOLVERS)
def test_ode_sampling_follows_the_flow_of_a_mixture(name: str) -> None:
    world, x_T = MixtureWorld(SD), torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    exact = world.flow(x_T, 999, 0)
    solver = SOLVERS[name](SD)
    few, many = (
        last(sample_ode(solver, world.denoise, x_T, ode_timesteps(SD, steps), None, final_timestep=0))
        for steps in (20, 200)
    )
    assert few.t == many.t == 0
    errors = [float((step.x_t - exact).square().mean().sqrt()) for step in (few, many)]
    assert errors[1] < min(0.03, errors[0] / 4)


def test_whoever_stops_early_pays_for_no_more() -> None:
    asked: list[int] = []

    def denoise(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        asked.append(t)
        return x_t

    path = sample_ode(DDIM(SD), denoise, torch.ones(1, 1), torch.tensor([999, 499, 249]), None)
    assert asked == []
    assert next(path).t == 499
    assert asked == [999]


def test_ode_steps_carry_the_estimate_and_end_at_it() -> None:
    world = MixtureWorld(SD)
    steps = list(sample_ode(DDIM(SD), world.denoise, noise_from(0, 4), [999, 499], None))
    torch.testing.assert_close(steps[0].x0, world.denoise(noise_from(0, 4), 999))
    torch.testing.assert_close(steps[1].x0, steps[1].x_t)
