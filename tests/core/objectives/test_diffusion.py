"""The diffusion loss: least at the posterior mean, whatever the network predicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.denoise import Denoiser
from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.core.prediction import PREDICTIONS, Prediction, Sample
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

SD = DiscreteSchedule.from_betas()
WORLD = GaussianWorld(SD)
GRID = SD.grid(50)


def draw(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def said(kind: Prediction, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The raw output of a network of this kind that means x_0 at x_t."""
    return Sample().to(kind, x_0, x_t, SD.alpha(t), SD.sigma(t))


@pytest.mark.parametrize("kind", PREDICTIONS.values(), ids=PREDICTIONS)
def test_diffusion_loss_is_least_at_the_posterior_mean(kind: Prediction) -> None:
    """In 40,000 pairs, the exact denoiser beats itself moved by +-5 % or spoken with the sign reversed."""
    count = 40_000
    x_0, noise = 0.5 + WORLD.s * draw(1, count), draw(2, count)
    t = torch.randint(1000, (count,), generator=torch.Generator().manual_seed(3))

    def loss_at(scale: float) -> float:
        def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
            return scale * said(kind, WORLD.denoise(x_t, t, cond), x_t, t)

        batch = Batch(x_0, noise, t, 0.5)  # type: ignore[arg-type]
        return float(Diffusion().loss(Networks(Denoiser(network, SD, kind), SD), batch).loss)

    assert loss_at(1.0) < min(loss_at(0.95), loss_at(1.05), loss_at(-1.0))


@pytest.mark.parametrize("kind", PREDICTIONS.values(), ids=PREDICTIONS)
def test_diffusion_loss_is_zero_when_the_data_is_one_point(kind: Prediction) -> None:
    world = GaussianWorld(SD, s=0.0)

    def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
        return said(kind, world.denoise(x_t, t, cond), x_t, t)

    batch = Batch(torch.full((50, 1), 0.3, dtype=torch.float64), draw(2), GRID, 0.3)  # type: ignore[arg-type]
    loss = Diffusion().loss(Networks(Denoiser(network, SD, kind), SD), batch)
    assert float(loss.loss) < 1e-20
    assert loss.per_sample.shape == (50,)
