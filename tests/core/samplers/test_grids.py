"""The times at which networks are asked: those of diffusers, and those where phases start."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.samplers.grids import (
    SPACINGS,
    consistency_timesteps,
    ode_timesteps,
    phase_ends,
    phased_timesteps,
)
from fewstep.core.schedules import DiscreteSchedule

SD = DiscreteSchedule.from_betas()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
GRID = SD.grid(50)


def test_training_grid() -> None:
    grid = SD.grid(50)
    assert grid.tolist() == list(range(19, 1000, 20))
    assert grid.dtype == torch.int64
    assert SD.grid(3).tolist() == [332, 665, 998]


def _lcm_times(scheduler: LCMScheduler, steps: int, strength: float) -> list[int] | None:
    try:
        scheduler.set_timesteps(steps, strength=strength)
    except (ValueError, ZeroDivisionError):
        return None
    return list(scheduler.timesteps.tolist())


def _our_times(steps: int, strength: float, grid: int) -> list[int] | None:
    try:
        return consistency_timesteps(SD, steps, strength, original_inference_steps=grid).tolist()
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
    assert consistency_timesteps(SD, 4).tolist() == [999, 759, 499, 259]
    assert consistency_timesteps(SD, 8).tolist() == [999, 879, 759, 639, 499, 379, 259, 139]
    assert consistency_timesteps(SD, 4, 0.5).tolist() == [499, 379, 259, 139]
    assert consistency_timesteps(SD, 4, original_inference_steps=100).tolist() == [
        999,
        749,
        499,
        249,
    ]


def test_strength_counts_as_a_reader_does() -> None:
    """50 * 0.58 is 28.999999999999996 to a float; the 29th time of the grid is 579."""
    assert int(50 * 0.58) == 28
    assert consistency_timesteps(SD, 1, 0.58).tolist() == [579]
    assert len(ode_timesteps(SD, 50, 0.58)) == 29


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ode_times_are_those_of_diffusers(spacing: str, offset: int) -> None:
    """Every number of steps. For some, a float gives diffusers' trailing times one too many, t = -1: not ours."""
    scheduler = DDIMScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    for steps in range(1, 1000):
        scheduler.set_timesteps(steps)
        theirs = scheduler.timesteps.tolist()
        assert theirs[steps:] in ([], [-1])
        assert ode_timesteps(SD, steps, spacing=spacing, steps_offset=offset).tolist() == theirs[:steps], steps


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_times_of_multistep_solvers_are_those_of_diffusers(spacing: str, offset: int) -> None:
    scheduler = DPMSolverMultistepScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    for steps in range(1, 200):
        scheduler.set_timesteps(steps)
        ours = ode_timesteps(SD, steps, spacing=spacing, steps_offset=offset, multistep=True)
        assert ours.tolist() == scheduler.timesteps.tolist()[:steps], steps


@given(st.integers(1, 60), st.integers(1, 100))
def test_strength_keeps_the_last_part(steps: int, percent: int) -> None:
    whole, kept = ode_timesteps(SD, steps).tolist(), steps * percent // 100
    if kept == 0:
        with pytest.raises(ValueError, match="leaves none"):
            ode_timesteps(SD, steps, percent / 100)
    else:
        assert ode_timesteps(SD, steps, percent / 100).tolist() == whole[-kept:]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: DiscreteSchedule.from_betas(num_train_timesteps=10).grid(11), "1 .. 10 points; got 11"),
        (lambda: consistency_timesteps(SD, 0), "0 steps"),
        (
            lambda: consistency_timesteps(SD, 6, 0.1),
            "6 steps at strength 0.1 do not fit.*leaves 5",
        ),
        (
            lambda: consistency_timesteps(SD, 4, 0.0),
            r"strength must lie in \(0, 1\]; got 0.0",
        ),
        (lambda: consistency_timesteps(SD, 4, 1.5), "got 1.5"),
        (lambda: consistency_timesteps(SD, 4, math.nan), "got nan"),
        (lambda: ode_timesteps(SD, 0), "1 .. 1000; got 0"),
        (lambda: ode_timesteps(SD, 1001), "got 1001"),
        (
            lambda: ode_timesteps(SD, 4, 0.2),
            "leaves none of 4 steps; it must be at least 0.25",
        ),
        (
            lambda: ode_timesteps(SD, 4, spacing="even"),
            "'even'.*trailing, leading, linspace",
        ),
        (
            lambda: ode_timesteps(SD, 1000, spacing="leading", steps_offset=1),
            "moves the first time to 1000",
        ),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("phases", "ends"), [(1, [0]), (2, [0, 499]), (4, [0, 239, 499, 739])])
def test_phases_end_where_the_paper_s_do(phases: int, ends: list[int]) -> None:
    assert phase_ends(SD, phases).tolist() == ends


def test_as_many_steps_as_phases_start_where_phases_start() -> None:
    assert phased_timesteps(SD, 4, 4).tolist() == [999, 739, 499, 239]
    assert phased_timesteps(SD, 2, 4).tolist() == [999, 499]
    assert phased_timesteps(SD, 1, 4).tolist() == [999]


@pytest.mark.parametrize("phases", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 13])
def test_times_fall_lie_on_the_grid_and_hold_every_start(phases: int, steps: int) -> None:
    times = phased_timesteps(SD, steps, phases).tolist()
    assert len(times) == steps
    assert times[0] == 999
    assert times == sorted(set(times), reverse=True)
    assert set(times) <= set(GRID.tolist())
    if steps >= phases:
        assert set(phase_ends(SD, phases).tolist()) - {0} <= set(times)
