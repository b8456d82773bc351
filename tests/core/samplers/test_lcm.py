"""Multistep consistency sampling: what it draws, when it asks, and the distribution that it reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.samplers.base import Step
from fewstep.core.samplers.grids import consistency_timesteps
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.schedules import CLEAN, DiscreteSchedule
from oracle import GaussianWorld

SD = DiscreteSchedule.from_betas()
ZERO_SNR = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
COUNT = 40_000


def noise_from(seed: int, count: int = COUNT) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(steps: Any) -> Step:
    return list(steps)[-1]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_consistency_sampling_reproduces_mean_and_deviation(steps: int) -> None:
    """The exact f from pure noise: every step renews the sample and keeps its law. Four standard errors are allowed."""
    world, mu, w = GaussianWorld(ZERO_SNR), 0.5, 2.0
    path = sample_consistency(
        world.f,
        ZERO_SNR,
        noise_from(0),
        consistency_timesteps(SD, steps),
        mu,
        w,
        lambda index: noise_from(1 + index),
    )
    result = last(path).x_t
    assert float(result.mean()) == pytest.approx(float(world.guided_mu(mu, w)), abs=4 * 0.7 / COUNT**0.5)
    assert float(result.std()) == pytest.approx(0.7, abs=4 * 0.7 / (2 * COUNT) ** 0.5)


def test_consistency_sampling_one_step_at_a_time() -> None:
    """x_0 = f(x_t, t), x_s = alpha_s x_0 + sigma_s noise; noise is drawn between steps and never after the last."""
    asked: list[Any] = []
    drawn: list[int] = []

    def f(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        asked.append((x_t, t, cond, w))
        return 0.5 * x_t

    def noise(index: int) -> Tensor:
        drawn.append(index)
        return noise_from(index, 3)

    x_T = noise_from(9, 3)
    steps = list(sample_consistency(f, SD, x_T, [999, 499, 19], "c", 7.5, noise))
    assert [(step.index, step.num_steps, step.t) for step in steps] == [
        (0, 3, 499),
        (1, 3, 19),
        (2, 3, CLEAN),
    ]
    assert [(t, cond, w) for _, t, cond, w in asked] == [(999, "c", 7.5), (499, "c", 7.5), (19, "c", 7.5)]
    assert drawn == [0, 1]
    x_t = x_T
    for index, (step, s) in enumerate(zip(steps, (499, 19, CLEAN), strict=True)):
        assert torch.equal(asked[index][0], x_t)
        torch.testing.assert_close(step.x0, 0.5 * x_t)
        x_t = step.x0 if s == CLEAN else SD.add_noise(step.x0, noise_from(index, 3), s)
        torch.testing.assert_close(step.x_t, x_t)


def test_one_step_needs_no_noise() -> None:
    step = last(sample_consistency(lambda x_t, t, cond, w: 2 * x_t, SD, torch.ones(1, 1), [999], None))
    assert torch.equal(step.x_t, torch.full((1, 1), 2.0))
