"""What is known is there at the end, exactly; the rest is painted as if alone."""

from __future__ import annotations

import pytest
import torch

from fewstep.core.inpainting import Inpainting
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.grids import consistency_timesteps, ode_timesteps
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.samplers.ode import sample_ode
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

SCHEDULE = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
WORLD = GaussianWorld(SCHEDULE)
KNOWN = torch.tensor([[3.0, -2.0, 7.0, 0.25]], dtype=torch.float64)  # columns are independent in this world
MASK = torch.tensor([[1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)


def noise(seed: int) -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_known_part_is_exact_and_the_rest_as_without_it(name: str) -> None:
    kept = Inpainting(WORLD.denoise, KNOWN, MASK)
    times = ode_timesteps(SCHEDULE, 10)
    mixed = list(sample_ode(SOLVERS[name](SCHEDULE), kept, noise(0), times, 0.5))[-1].x_t
    free = list(sample_ode(SOLVERS[name](SCHEDULE), WORLD.denoise, noise(0), times, 0.5))[-1].x_t
    assert torch.equal(mixed[:, 1], KNOWN[0, 1].expand(5))
    assert torch.equal(mixed[:, 3], KNOWN[0, 3].expand(5))
    torch.testing.assert_close(mixed[:, ::2], free[:, ::2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_consistency_function_is_wrapped_alike(steps: int) -> None:
    kept, times = Inpainting(WORLD.f, KNOWN, MASK), consistency_timesteps(SCHEDULE, steps)
    mixed = list(sample_consistency(kept, SCHEDULE, noise(0), times, 0.5, 0.0, noise))[-1].x_t
    free = list(sample_consistency(WORLD.f, SCHEDULE, noise(0), times, 0.5, 0.0, noise))[-1].x_t
    assert torch.equal(mixed[:, 1::2], KNOWN[:, 1::2].expand(5, 2))
    torch.testing.assert_close(mixed[:, ::2], free[:, ::2], rtol=0, atol=1e-12)
