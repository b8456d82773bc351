"""Trajectories that end anywhere: exact in the analytic world, and the same pictures as diffusers' TCD scheduler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import TCDScheduler
from torch import Tensor

from fewstep.core.consistency import TrajectoryFunction
from fewstep.core.denoise import Denoiser
from fewstep.core.prediction import PREDICTIONS
from fewstep.core.samplers.grids import consistency_timesteps, phase_ends, phased_timesteps, training_grid
from fewstep.core.samplers.tcd import sample_trajectory
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

SD = DiscreteSchedule.from_betas()
WORLD = GaussianWorld(SD)
GRID = training_grid()
MU = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)


def draw(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("phases", "ends"), [(1, [0]), (2, [0, 499]), (4, [0, 239, 499, 739])])
def test_phases_end_where_the_paper_s_do(phases: int, ends: list[int]) -> None:
    assert phase_ends(phases).tolist() == ends


def test_as_many_steps_as_phases_start_where_phases_start() -> None:
    assert phased_timesteps(4, 4).tolist() == [999, 739, 499, 239]
    assert phased_timesteps(2, 4).tolist() == [999, 499]
    assert phased_timesteps(1, 4).tolist() == [999]


@pytest.mark.parametrize("phases", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 13])
def test_times_fall_lie_on_the_grid_and_hold_every_start(phases: int, steps: int) -> None:
    times = phased_timesteps(steps, phases).tolist()
    assert len(times) == steps
    assert times[0] == 999
    assert times == sorted(set(times), reverse=True)
    assert set(times) <= set(GRID.tolist())
    if steps >= phases:
        assert set(phase_ends(phases).tolist()) - {0} <= set(times)


def test_a_trajectory_that_ends_where_it_begins_is_the_identity_to_the_bit() -> None:
    t = torch.tensor([19, 499, 999])
    x = torch.randn(3, 4, 2, 2)
    g = TrajectoryFunction(lambda x_t, *_: torch.randn_like(x_t), SD, t)
    assert torch.equal(g(x, t, None), x)


def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
    return torch.tanh(x_t * 1.3 + t.view(-1, 1, 1, 1) / 700.0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_same_noise_gives_the_samples_of_diffusers_tcd(kind: str, gamma: float, steps: int) -> None:
    theirs = TCDScheduler(prediction_type=kind, clip_sample=False)
    theirs.set_timesteps(steps)
    times = consistency_timesteps(steps)
    assert theirs.timesteps.tolist() == times.tolist()
    x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x, generator = x_T, torch.Generator().manual_seed(1)
    for t in theirs.timesteps:
        output = network(x, t.expand(2), None, None)
        x = theirs.step(output, t, x, eta=gamma, generator=generator, return_dict=False)[0]
    generator = torch.Generator().manual_seed(1)
    ours = list(
        sample_trajectory(
            Denoiser(network, SD, PREDICTIONS[kind]), SD, x_T, times, None,
            noise=lambda _: torch.randn(x_T.shape, generator=generator), gamma=gamma,
        )
    )  # fmt: skip
    torch.testing.assert_close(ours[-1].x_t, x, rtol=1e-3, atol=1e-4)
    assert [step.t for step in ours] == [*times.tolist()[1:], 0]


def test_noise_that_is_needed_and_gammas_that_are_not_are_refused() -> None:
    denoise = Denoiser(network, SD)
    with pytest.raises(ValueError, match="pass `noise`"):
        next(sample_trajectory(denoise, SD, torch.zeros(1, 4, 2, 2), [999, 499], None))
    with pytest.raises(ValueError, match="gamma must lie"):
        next(sample_trajectory(denoise, SD, torch.zeros(1, 4, 2, 2), [999], None, gamma=1.5))
