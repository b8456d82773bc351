"""Rectified flow and its shifts, against diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from fewstep.core.schedules import RectifiedFlow, ShiftBySize

CONFIG = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}


def test_a_straight_line_from_data_to_noise() -> None:
    flow = RectifiedFlow()
    assert [float(flow.alpha(t)) for t in (0.0, 250.0, 1000.0)] == [1.0, 0.75, 0.0]
    assert [float(flow.sigma(t)) for t in (0.0, 250.0, 1000.0)] == [0.0, 0.25, 1.0]
    assert float(flow.log_snr(250.0)) == pytest.approx(2 * math.log(3))
    assert flow.whole(12.75) == 12.75


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_a_shift_moves_where_times_lie_and_not_what_they_mean(shift: float) -> None:
    """sigma' = s sigma / (1 + (s - 1) sigma); log-SNR' = log-SNR - 2 log s (2403.03206, eq. 23)."""
    flow, plain, tau = RectifiedFlow(shift), RectifiedFlow(), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    torch.testing.assert_close(flow.at(tau), 1000 * shift * tau / (1 + (shift - 1) * tau))
    moved = flow.log_snr(flow.at(tau)) - plain.log_snr(plain.at(tau))
    torch.testing.assert_close(moved, torch.full_like(tau, -2 * math.log(shift)))
    torch.testing.assert_close(flow.sigma(500.0), plain.sigma(500.0))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_all_times_are_those_of_diffusers(shift: float) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    flow = RectifiedFlow(shift)
    times = flow.at(torch.arange(1000, 0, -1, dtype=torch.float64) / 1000)
    torch.testing.assert_close(times.float(), theirs.timesteps, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(flow.sigma(times).float(), theirs.sigmas, rtol=1e-6, atol=1e-7)
    x_0, noise = torch.randn(2, 3), torch.randn(2, 3)
    scaled = theirs.scale_noise(x_0, theirs.timesteps[[100, 900]], noise)
    torch.testing.assert_close(flow.add_noise(x_0, noise, theirs.timesteps[[100, 900]]), scaled)


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_the_times_of_steps_are_those_of_diffusers(steps: int) -> None:
    """With the pipelines' own sigmas, 1 .. 1/N, and with the scheduler's, whose end is shifted twice."""
    flow, theirs = RectifiedFlow(3.0), FlowMatchEulerDiscreteScheduler(shift=3.0)
    sigmas = torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64)
    theirs.set_timesteps(sigmas=sigmas.tolist())
    torch.testing.assert_close(flow.at(sigmas).float(), theirs.timesteps)
    theirs.set_timesteps(steps)
    first = float(flow.sigma(flow.at(1 / 1000)))
    torch.testing.assert_close(flow.at(torch.linspace(1.0, first, steps).double()).float(), theirs.timesteps)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [256, 1024, 4096, 6000])
def test_a_shift_by_size_is_that_of_diffusers(tokens: int, kind: str) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind, **CONFIG)
    sigmas = torch.linspace(1.0, 0.1, 10, dtype=torch.float64)
    theirs.set_timesteps(sigmas=sigmas.tolist(), mu=calculate_shift(tokens))
    flow = RectifiedFlow(by_size=ShiftBySize(time_shift_type=kind))
    torch.testing.assert_close(flow.for_size(tokens).at(sigmas).float(), theirs.timesteps)


def test_a_shift_by_size_in_numbers() -> None:
    assert ShiftBySize()(256) == pytest.approx(math.exp(0.5))
    assert ShiftBySize()(4096) == pytest.approx(math.exp(1.15))
    assert ShiftBySize(time_shift_type="linear")(256) == 0.5
    assert RectifiedFlow(3.0).for_size(64) == RectifiedFlow(3.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RectifiedFlow(0.0), "must be above 0; got 0"),
        (lambda: RectifiedFlow(math.nan), "got nan"),
        (lambda: RectifiedFlow(by_size=ShiftBySize()).at(0.5), r"depends on the size.*for_size"),
        (lambda: RectifiedFlow(by_size=ShiftBySize()).tau(5.0), r"depends on the size"),
        (lambda: ShiftBySize(time_shift_type="square"), "'square'; allowed are exponential, linear"),
        (lambda: ShiftBySize(base_image_seq_len=4096), "4096 must lie below max_image_seq_len, 4096"),
        (lambda: RectifiedFlow().alpha(1001.0), r"t = 1001 is outside the schedule: 0 \(clean data\) .. 1000"),
        (lambda: RectifiedFlow().alpha(-1), "t = -1 is outside"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
