"""Strategic stochastic sampling: the same pictures as diffusers' TCD scheduler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import TCDScheduler
from torch import Tensor

from fewstep.core.denoise import Denoiser
from fewstep.core.prediction import PREDICTIONS
from fewstep.core.samplers.grids import consistency_timesteps
from fewstep.core.samplers.tcd import sample_trajectory
from fewstep.core.schedules import DiscreteSchedule

SD = DiscreteSchedule.from_betas()


def network(x_t: Tensor, t: Tensor, cond: Any, w: Any) -> Tensor:
    return torch.tanh(x_t * 1.3 + t.view(-1, 1, 1, 1) / 700.0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_same_noise_gives_the_samples_of_diffusers_tcd(kind: str, gamma: float, steps: int) -> None:
    theirs = TCDScheduler(prediction_type=kind, clip_sample=False)
    theirs.set_timesteps(steps)
    times = consistency_timesteps(SD, steps)
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
