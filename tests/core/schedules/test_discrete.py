"""DDPM's table, against diffusers' and against arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler

from fewstep.core.schedules import BETA_KINDS, CLEAN, DiscreteSchedule

SD = DiscreteSchedule.from_betas()
ZERO_SNR = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("kind", BETA_KINDS)
def test_tables_are_those_of_diffusers(kind: str, rescale: bool) -> None:
    """To the float32 that diffusers computes in: three roundings at each of 1000 factors."""
    theirs = DDIMScheduler(**BETAS, beta_schedule=kind, rescale_betas_zero_snr=rescale).alphas_cumprod
    ours = DiscreteSchedule.from_betas(kind, **BETAS, rescale_zero_terminal_snr=rescale)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs, rtol=2e-4, atol=1e-6)


def test_stable_diffusions_numbers() -> None:
    assert float(SD.alpha(0) ** 2) == pytest.approx(0.99915, abs=1e-6)
    assert float(SD.alpha(19) ** 2) == pytest.approx(0.98224, abs=5e-6)
    assert float(SD.alpha(999) ** 2) == pytest.approx(0.004660, abs=5e-7)
    assert float(SD.sigma(0)) == pytest.approx(0.00085**0.5, abs=1e-12)
    assert (SD.clean, SD.last, SD.num_train_timesteps) == (CLEAN, 999, 1000) == (-1, 999, 1000)


def test_zero_terminal_snr_ends_at_exactly_nothing_and_keeps_the_start() -> None:
    assert float(ZERO_SNR.alpha(999)) == 0.0
    assert float(ZERO_SNR.sigma(999)) == 1.0
    assert float(ZERO_SNR.alpha(0)) == pytest.approx(float(SD.alpha(0)), abs=1e-15)


@pytest.mark.parametrize("schedule", [SD, ZERO_SNR], ids=["SD", "zero SNR"])
def test_whole_times_are_the_table_s_to_the_bit_however_they_are_spelt(schedule: DiscreteSchedule) -> None:
    times = torch.arange(CLEAN, 1000)
    for row, read in enumerate((schedule.alpha, schedule.sigma)):
        for spelt in (times, times.int(), times.double(), times.float()):
            assert torch.equal(read(spelt), schedule.table[row])
        assert [float(read(t)) for t in (CLEAN, 0, 500, 999)] == schedule.table[row, [0, 1, 501, 1000]].tolist()
        assert [float(read(t)) for t in (-1.0, 0.0, 500.0, 999.0)] == schedule.table[row, [0, 1, 501, 1000]].tolist()


@pytest.mark.parametrize("schedule", [SD, ZERO_SNR], ids=["SD", "zero SNR"])
def test_between_whole_times_the_angle_is_linear(schedule: DiscreteSchedule) -> None:
    """And alpha^2 + sigma^2 stays 1, from clean data to the end."""
    low = torch.arange(CLEAN, 999)
    for share in (0.25, 0.5, 0.875):
        t = low + share
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-14, atol=0)
        angles = [torch.acos(schedule.alpha(each)) for each in (low, low + 1)]
        torch.testing.assert_close(torch.atan2(sigma, alpha), torch.lerp(*angles, share), rtol=1e-10, atol=1e-12)


def test_between_whole_times_it_is_nearly_k_diffusion_s() -> None:
    """Which is linear in log(sigma / alpha): 1.8e-5 and 5.3e-4 apart in alpha and sigma between times 0 and 1, and
    1.5e-6 and 1.1e-5 from time 19 on.
    """
    for first, alpha_apart, sigma_apart in ((0, 2e-5, 6e-4), (19, 2e-6, 1.2e-5)):
        low = torch.arange(first, 999)
        log_sigma = torch.lerp(-0.5 * SD.log_snr(low), -0.5 * SD.log_snr(low + 1), 0.5)
        alpha = (1 + torch.exp(2 * log_sigma)) ** -0.5
        torch.testing.assert_close(SD.alpha(low + 0.5), alpha, rtol=0, atol=alpha_apart)
        torch.testing.assert_close(SD.sigma(low + 0.5), alpha * log_sigma.exp(), rtol=0, atol=sigma_apart)


def test_a_whole_time_is_the_one_below() -> None:
    assert [SD.whole(t) for t in (499.0, 499.9, 0.3 * 590)] == [499, 499, math.floor(0.3 * 590)]
    assert isinstance(SD.whole(3.2), int)


def test_drawn_times_are_whole() -> None:
    times = SD.draw_times(50, torch.Generator().manual_seed(3))
    assert torch.equal(times, torch.randint(1000, (50,), generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: DiscreteSchedule.from_betas("cosine"), "'cosine'.*linear, scaled_linear, squaredcos_cap_v2"),
        (lambda: DiscreteSchedule.from_betas(num_train_timesteps=0), "at least one time"),
        (lambda: DiscreteSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.95])), "must fall"),
        (lambda: DiscreteSchedule.from_alphas_cumprod(torch.tensor([1.0, 0.95])), "sigmas must be above 0"),
        (lambda: DiscreteSchedule.from_alphas_cumprod(torch.tensor([1.2, 0.8])), r"alphas must lie in \[0, 1\]"),
        (lambda: DiscreteSchedule.from_alphas_cumprod(torch.tensor([[0.9, 0.8]])), r"shape \(T,\)"),
        (lambda: SD.alpha(1000), r"t = 1000 is outside the schedule: -1 \(clean data\) .. 999"),
        (lambda: SD.sigma(-2), "t = -2 is outside"),
        (lambda: SD.alpha(999.5), r"t = 999.5 is outside"),
        (lambda: SD.alpha(torch.tensor([5, -2])), "t = -2 is outside"),
        (lambda: SD.alpha(torch.tensor([5, 1000])), "t = 1000 is outside"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
