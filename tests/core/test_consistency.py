"""Boundary scalings and the consistency function."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers import LCMScheduler
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, TrajectoryFunction, boundary_scalings, hard_scalings
from fewstep.core.schedules import CLEAN, DiscreteSchedule


@pytest.mark.parametrize("timestep_scaling", [10.0, 1.0, 0.01])
def test_lcm_scalings_are_those_of_diffusers(timestep_scaling: float) -> None:
    scheduler = LCMScheduler(timestep_scaling=timestep_scaling)
    times = torch.arange(1000)
    c_skip, c_out = boundary_scalings(times, timestep_scaling=timestep_scaling)
    theirs = torch.tensor([scheduler.get_scalings_for_boundary_condition_discrete(t) for t in range(1000)])
    torch.testing.assert_close(torch.stack([c_skip, c_out], dim=1).float(), theirs)


@pytest.mark.parametrize(
    ("t", "c_skip", "c_out"),
    [(CLEAN, 1.0, 0.0), (0, 1.0, 0.0), (1, 2.494e-3, 0.99875), (19, 6.93e-6, 0.999997)],
)
def test_lcm_scalings_in_numbers(t: int, c_skip: float, c_out: float) -> None:
    assert [float(c) for c in boundary_scalings(t)] == pytest.approx([c_skip, c_out], rel=1e-3)


def test_hard_scalings() -> None:
    c_skip, c_out = hard_scalings(torch.tensor([CLEAN, 0, 1, 999]))
    assert c_skip.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert c_out.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert [float(c) for c in hard_scalings(239, boundary=239)] == [1.0, 0.0]


def test_f_is_the_identity_at_the_boundary_and_mixes_above_it() -> None:
    def denoise(x_t: Tensor, t: Tensor, cond: float, w: float | None = None) -> Tensor:
        return torch.full_like(x_t, cond + (w or 0.0))

    f = ConsistencyFunction(denoise, partial(boundary_scalings, timestep_scaling=0.25))
    x_t = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(f(x_t, 0, 5.0), x_t)
    assert torch.equal(f(x_t, CLEAN, 5.0), x_t)
    mixed = f(x_t, torch.tensor([0, 2, 4]), 5.0, 1.0)
    torch.testing.assert_close(mixed[0], x_t[0])
    torch.testing.assert_close(mixed[1], x_t[1] / 2 + 6.0 / 2**0.5)
    torch.testing.assert_close(mixed[2], x_t[2] / 5 + 6.0 * 2 / 5**0.5)


def test_a_trajectory_that_ends_where_it_begins_is_the_identity_to_the_bit() -> None:
    t = torch.tensor([19, 499, 999])
    x = torch.randn(3, 4, 2, 2)
    g = TrajectoryFunction(lambda x_t, *_: torch.randn_like(x_t), DiscreteSchedule.from_betas(), t)
    assert torch.equal(g(x, t, None), x)
