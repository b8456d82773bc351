"""Solvers: their measured order of convergence, and their exact cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.ddim import DDIM
from fewstep.core.samplers.dpmpp import DPMSolverPP2M
from fewstep.core.samplers.heun import Heun
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import CLEAN, DiscreteSchedule, RectifiedFlow, TrigFlow
from oracle import GaussianWorld, MixtureWorld

SD = DiscreteSchedule.from_betas()
ZERO_SNR = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
X = torch.linspace(-1.5, 1.5, 33, dtype=torch.float64)[:, None]

SMOOTH = {"TrigFlow": TrigFlow(), "rectified flow": RectifiedFlow()}


def solve(solver: Any, denoise: Any, x_t: Tensor, times: Sequence[float]) -> Tensor:
    state = solver.init()
    for t, s in itertools.pairwise(times):
        x_t, state = solver.step(denoise, x_t, t, s, None, state)
    return x_t


@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize("name", SOLVERS)
def test_error_falls_at_the_order_of_the_solver(name: str, schedule: Schedule) -> None:
    """Halving the step divides the error by 2^order, against the exact flow of a mixture of Gaussians.

    Measured: DDIM 1.00, DPM-Solver++(2M) 2.02 to 2.04, Heun 2.00 to 2.01, UniPC 2.97 to 3.05.
    """
    world, solver = MixtureWorld(schedule), SOLVERS[name](schedule)
    start, end = 0.875 * schedule.last, 0.125 * schedule.last
    exact = world.flow(X, start, end)
    errors = []
    for steps in (128, 256, 512):
        times = torch.linspace(start, end, steps + 1, dtype=torch.float64).tolist()
        errors.append((solve(solver, world.denoise, X, times) - exact).square().mean().sqrt())
    orders = [float(torch.log2(coarse / fine)) for coarse, fine in itertools.pairwise(errors)]
    assert orders == pytest.approx([solver.order] * 2, abs=0.1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", [SD, ZERO_SNR], ids=["SD", "zero SNR"])
def test_a_single_point_of_data_is_reached_exactly(name: str, schedule: Schedule) -> None:
    """With all data at mu the denoiser is constant, the flow is a straight line, and every solver is exact."""
    mu, noise = 0.3, X
    x_t = schedule.add_noise(torch.full_like(X, mu), noise, 999)
    solver = SOLVERS[name](schedule)

    def denoise(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        return torch.full_like(x_t, mu)

    halfway = solve(solver, denoise, x_t, [999, 700, 400, 250])
    torch.testing.assert_close(halfway, schedule.add_noise(torch.full_like(X, mu), noise, 250))
    clean = solve(solver, denoise, x_t, [999, 700, 400, CLEAN])
    torch.testing.assert_close(clean, torch.full_like(X, mu))


@pytest.mark.parametrize("name", SOLVERS)
def test_from_pure_noise_to_clean_data(name: str) -> None:
    """Fifty steps over a zero-terminal-SNR schedule, whose log-SNR is infinite at both ends."""
    world = GaussianWorld(ZERO_SNR)
    times = [*range(999, 0, -20), CLEAN]
    result = solve(SOLVERS[name](ZERO_SNR), lambda x, t, cond: world.denoise(x, t, 0.5), X, times)
    torch.testing.assert_close(result, world.f(X, 999, 0.5), rtol=0, atol=0.06)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_time_per_sample_is_the_same_as_one_time_each(name: str) -> None:
    solver, world = SOLVERS[name](SD), MixtureWorld(SD)
    paths = [(999, 700, 400), (500, 480, 0), (300, 19, CLEAN)]
    x_t = X[10:13]
    together, state = x_t, solver.init()
    for t, s in zip(torch.tensor(paths).T[:-1], torch.tensor(paths).T[1:], strict=True):
        together, state = solver.step(world.denoise, together, t, s, None, state)
    alone = [solve(solver, world.denoise, x[None], list(path)) for x, path in zip(x_t, paths, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_second_order_solvers_begin_and_end_as_ddim() -> None:
    world = MixtureWorld(SD)
    first, state = DPMSolverPP2M(SD).step(world.denoise, X, 900, 600, None, None)
    torch.testing.assert_close(first, DDIM(SD).step(world.denoise, X, 900, 600, None, None)[0])
    for solver in (DPMSolverPP2M(SD), Heun(SD)):
        last = solver.step(world.denoise, first, 600, CLEAN, None, state)[0]
        torch.testing.assert_close(last, world.denoise(first, 600))


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_are_pure_and_remember_the_last_estimate(name: str) -> None:
    solver, world = SOLVERS[name](SD), MixtureWorld(SD)
    _, state = solver.step(world.denoise, X, 900, 600, None, solver.init())
    before, kept = X.clone(), state.x0.clone()
    once, twice = (solver.step(world.denoise, X, 600, 300, None, state)[0] for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(before, X)
    assert torch.equal(kept, state.x0)
    assert float(state.log_snr) == float(SD.log_snr(900))
    with pytest.raises(FrozenInstanceError):
        solver.schedule = ZERO_SNR


@pytest.mark.parametrize("name", SOLVERS)
def test_half_precision_is_promoted(name: str) -> None:
    """The coefficients are exact to float32, whatever the precision of x_t."""
    solver = SOLVERS[name](SD)
    x_t = X.to(torch.bfloat16)
    x_s, _ = solver.step(lambda x, t, cond: 0.5 * x, x_t, 39, 19, None, None)
    exact, _ = solver.step(lambda x, t, cond: 0.5 * x, x_t.double(), 39, 19, None, None)
    assert x_s.dtype == torch.float32
    torch.testing.assert_close(x_s.double(), exact, rtol=1e-6, atol=1e-6)
