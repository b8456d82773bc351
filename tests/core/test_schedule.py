"""The schedule's tables and times, against diffusers' and against arithmetic."""

from __future__ import annotations

import json
import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.samplers.grids import SPACINGS, consistency_timesteps, ode_timesteps, training_grid
from fewstep.core.schedule import BETA_KINDS, CLEAN, Schedule, broadcast

SD = Schedule.from_betas()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
FLOW = Schedule.from_functions(lambda tau: 1 - tau, lambda tau: tau, 10)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("kind", BETA_KINDS)
def test_tables_are_those_of_diffusers(kind: str, rescale: bool) -> None:
    """To the float32 that diffusers computes in: three roundings at each of 1000 factors."""
    theirs = DDIMScheduler(**BETAS, beta_schedule=kind, rescale_betas_zero_snr=rescale).alphas_cumprod
    ours = Schedule.from_betas(kind, **BETAS, rescale_zero_terminal_snr=rescale)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs, rtol=2e-4, atol=1e-6)


def test_stable_diffusions_numbers() -> None:
    assert float(SD.alpha(0) ** 2) == pytest.approx(0.99915, abs=1e-6)
    assert float(SD.alpha(19) ** 2) == pytest.approx(0.98224, abs=5e-6)
    assert float(SD.alpha(999) ** 2) == pytest.approx(0.004660, abs=5e-7)
    assert float(SD.sigma(0)) == pytest.approx(0.00085**0.5, abs=1e-12)


def test_zero_terminal_snr_ends_at_exactly_nothing_and_keeps_the_start() -> None:
    rescaled = Schedule.from_betas(rescale_zero_terminal_snr=True)
    assert float(rescaled.alpha(999)) == 0.0
    assert float(rescaled.sigma(999)) == 1.0
    assert float(rescaled.log_snr(999)) == -math.inf
    assert float(rescaled.alpha(0)) == pytest.approx(float(SD.alpha(0)), abs=1e-15)


@pytest.mark.parametrize("schedule", [SD, FLOW], ids=["SD", "flow matching"])
def test_minus_one_is_clean_data(schedule: Schedule) -> None:
    assert (float(schedule.alpha(CLEAN)), float(schedule.sigma(CLEAN))) == (1.0, 0.0)
    assert float(schedule.log_snr(torch.tensor(CLEAN))) == math.inf
    x_0 = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(schedule.add_noise(x_0, torch.randn_like(x_0), CLEAN), x_0)


def test_functions_are_read_at_tau() -> None:
    assert FLOW.alpha(4).item() == pytest.approx(0.5)
    assert FLOW.sigma(9).item() == 1.0
    assert FLOW.num_train_timesteps == 10


def test_times_may_be_numbers_or_tensors() -> None:
    times = torch.tensor([[CLEAN, 0], [19, 999]], dtype=torch.int32)
    for read in (SD.alpha, SD.sigma, SD.log_snr):
        values = read(times)
        assert values.shape == times.shape
        assert values.dtype == torch.float64
        assert values.flatten().tolist() == [float(read(int(t))) for t in times.flatten()]
    assert float(SD.log_snr(500)) == pytest.approx(2 * math.log(float(SD.alpha(500) / SD.sigma(500))))


def test_noise_is_added_to_each_sample_at_its_own_time() -> None:
    x_0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    x_t = SD.add_noise(x_0, noise, torch.tensor([19, 999]))
    for row, t in enumerate((19, 999)):
        by_hand = math.sqrt(SD.alphas_cumprod[t]) * x_0[row] + math.sqrt(1 - SD.alphas_cumprod[t]) * noise[row]
        torch.testing.assert_close(x_t[row], by_hand)


def test_half_precision_never_meets_the_schedule() -> None:
    """At t = 19, sigma computed from a bfloat16 alpha^2 would be 4.9 % too large."""
    zero, one = torch.zeros(1, 1, dtype=torch.bfloat16), torch.ones(1, 1, dtype=torch.bfloat16)
    x_t = SD.add_noise(zero, one, torch.tensor([19]))
    assert x_t.dtype == torch.float32
    assert float(x_t) == pytest.approx(float(SD.sigma(19)), rel=1e-7)


def test_broadcast_gives_rank_and_at_least_float32() -> None:
    x = torch.zeros(2, 3, 4, 5, dtype=torch.float16)
    assert broadcast(torch.tensor([1.0, 2.0], dtype=torch.float64), x).shape == (2, 1, 1, 1)
    assert broadcast(0.1, x).dtype == torch.float32
    assert broadcast(0.1, x.double()).item() == 0.1


@pytest.mark.parametrize(
    "schedule",
    [
        SD,
        Schedule.from_betas("squaredcos_cap_v2", rescale_zero_terminal_snr=True),
        Schedule.from_alphas_cumprod(torch.linspace(0.99, 0.01, 7) ** 1.1),
        FLOW,
    ],
)
def test_config_survives_json_to_the_last_bit(schedule: Schedule) -> None:
    again = Schedule.from_config(json.loads(json.dumps(schedule.to_config())))
    assert torch.equal(again.table, schedule.table)
    assert again.to_config() == schedule.to_config()


def test_training_grid() -> None:
    grid = training_grid()
    assert grid.tolist() == list(range(19, 1000, 20))
    assert grid.dtype == torch.int64
    assert training_grid(1000, 3).tolist() == [332, 665, 998]


def _lcm_times(scheduler: LCMScheduler, steps: int, strength: float) -> list[int] | None:
    try:
        scheduler.set_timesteps(steps, strength=strength)
    except (ValueError, ZeroDivisionError):
        return None
    return list(scheduler.timesteps.tolist())


def _our_times(steps: int, strength: float, grid: int) -> list[int] | None:
    try:
        return consistency_timesteps(steps, strength, original_inference_steps=grid).tolist()
    except ValueError:
        return None


@pytest.mark.parametrize("grid", [50, 100, 40])
def test_consistency_times_are_those_of_diffusers(grid: int) -> None:
    """Every number of steps at every strength in percent, but where a float cuts int(grid * strength) short."""
    scheduler = LCMScheduler(**BETAS, original_inference_steps=grid)
    cut_short = [p for p in range(1, 101) if int(grid * (p / 100)) != grid * p // 100]
    assert cut_short == {50: [58], 100: [29, 57, 58], 40: []}[grid]
    for percent in range(1, 101):
        if percent not in cut_short:
            for steps in range(1, grid + 2):
                ours = _our_times(steps, percent / 100, grid)
                assert ours == _lcm_times(scheduler, steps, percent / 100), (steps, percent)


def test_consistency_times_that_papers_and_users_know() -> None:
    assert consistency_timesteps(4).tolist() == [999, 759, 499, 259]
    assert consistency_timesteps(8).tolist() == [999, 879, 759, 639, 499, 379, 259, 139]
    assert consistency_timesteps(4, 0.5).tolist() == [499, 379, 259, 139]
    assert consistency_timesteps(4, original_inference_steps=100).tolist() == [999, 749, 499, 249]


def test_strength_counts_as_a_reader_does() -> None:
    """50 * 0.58 is 28.999999999999996 to a float; the 29th time of the grid is 579."""
    assert int(50 * 0.58) == 28
    assert consistency_timesteps(1, 0.58).tolist() == [579]
    assert len(ode_timesteps(50, 0.58)) == 29


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ode_times_are_those_of_diffusers(spacing: str, offset: int) -> None:
    """Every number of steps. For some, a float gives diffusers' trailing times one too many, t = -1: not ours."""
    scheduler = DDIMScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    for steps in range(1, 1000):
        scheduler.set_timesteps(steps)
        theirs = scheduler.timesteps.tolist()
        assert theirs[steps:] in ([], [-1])
        assert ode_timesteps(steps, spacing=spacing, steps_offset=offset).tolist() == theirs[:steps], steps


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_times_of_multistep_solvers_are_those_of_diffusers(spacing: str, offset: int) -> None:
    scheduler = DPMSolverMultistepScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    for steps in range(1, 200):
        scheduler.set_timesteps(steps)
        ours = ode_timesteps(steps, spacing=spacing, steps_offset=offset, multistep=True)
        assert ours.tolist() == scheduler.timesteps.tolist()[:steps], steps


@given(st.integers(1, 60), st.integers(1, 100))
def test_strength_keeps_the_last_part(steps: int, percent: int) -> None:
    whole, kept = ode_timesteps(steps).tolist(), steps * percent // 100
    if kept == 0:
        with pytest.raises(ValueError, match="leaves none"):
            ode_timesteps(steps, percent / 100)
    else:
        assert ode_timesteps(steps, percent / 100).tolist() == whole[-kept:]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Schedule.from_betas("cosine"), "'cosine'.*linear, scaled_linear, squaredcos_cap_v2"),
        (lambda: Schedule.from_betas(num_train_timesteps=0), "at least one time"),
        (lambda: Schedule.from_alphas_cumprod(torch.tensor([0.9, 0.95])), "must fall"),
        (lambda: Schedule.from_alphas_cumprod(torch.tensor([1.0, 0.95])), "sigmas must be above 0"),
        (lambda: Schedule.from_alphas_cumprod(torch.tensor([[0.9, 0.8]])), r"shape \(T,\)"),
        (
            lambda: Schedule.from_functions(lambda tau: 2 - tau, lambda tau: tau),
            r"alphas must lie in \[0, 1\]",
        ),
        (lambda: Schedule.from_config({"beta": 1}), r"got the keys \['beta'\]"),
        (lambda: SD.alpha(1000), r"t = 1000 is outside the schedule: -1 \(clean data\) .. 999"),
        (lambda: SD.sigma(-2), "t = -2 is outside"),
        (lambda: SD.alpha(torch.tensor([5, -2])), "t = -2 is outside"),
        (lambda: SD.alpha(torch.tensor([5, 1000])), "t = 1000 is outside"),
        (lambda: SD.alpha(torch.tensor([5.0])), "times are integers"),
        (lambda: training_grid(10, 11), "1 .. 10 points; got 11"),
        (lambda: consistency_timesteps(0), "0 steps"),
        (lambda: consistency_timesteps(6, 0.1), "6 steps at strength 0.1 do not fit.*leaves 5"),
        (lambda: consistency_timesteps(4, 0.0), r"strength must lie in \(0, 1\]; got 0.0"),
        (lambda: consistency_timesteps(4, 1.5), "got 1.5"),
        (lambda: consistency_timesteps(4, math.nan), "got nan"),
        (lambda: ode_timesteps(0), "1 .. 1000; got 0"),
        (lambda: ode_timesteps(1001), "got 1001"),
        (lambda: ode_timesteps(4, 0.2), "leaves none of 4 steps; it must be at least 0.25"),
        (lambda: ode_timesteps(4, spacing="even"), "'even'.*trailing, leading, linspace"),
        (lambda: ode_timesteps(1000, spacing="leading", steps_offset=1), "moves the first time to 1000"),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_an_int_time_is_not_a_float() -> None:
    with pytest.raises(TypeError):
        SD.alpha(19.5)
