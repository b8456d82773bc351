"""TrigFlow, against diffusers' scheduler of SANA-Sprint."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import SCMScheduler

from fewstep.core.prediction import Trig
from fewstep.core.schedules import TrigFlow


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_cosine_and_sine(sigma_data: float) -> None:
    trig, t = TrigFlow(sigma_data), torch.linspace(0, math.pi / 2, 101, dtype=torch.float64)
    torch.testing.assert_close(trig.alpha(t), t.cos(), rtol=0, atol=1e-15)
    torch.testing.assert_close(trig.sigma(t), sigma_data * t.sin(), rtol=0, atol=1e-15)
    torch.testing.assert_close(trig.log_snr(t[1:-1]), -2 * (sigma_data * t[1:-1].tan()).log())


def test_the_end_as_diffusers_rounds_it_is_pure_noise() -> None:
    """Its first time is 1.5708, 3.7e-6 above pi / 2."""
    assert (float(TrigFlow().alpha(1.5708)), float(TrigFlow().sigma(1.5708))) == (0.0, pytest.approx(1.0))


def test_two_steps_are_those_of_diffusers() -> None:
    """x_0 = cos(s) x_s - sin(s) sigma_data F, then noise of deviation sigma_data up to the next time."""
    theirs, trig, kind = SCMScheduler(sigma_data=0.5), TrigFlow(0.5), Trig(0.5)
    theirs.set_timesteps(2)
    x = 0.5 * torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    output = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    times = theirs.timesteps.tolist()
    stepped, x_0 = theirs.step(0.5 * output, times[1], x, generator=torch.Generator().manual_seed(2), return_dict=False)
    ours = kind.x0(output, x, trig.alpha(times[1]), trig.sigma(times[1]))
    torch.testing.assert_close(ours, x_0)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(trig.add_noise(ours, noise, times[2]), stepped)


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.inf])
def test_no_data_has_such_a_deviation(sigma_data: float) -> None:
    with pytest.raises(ValueError, match="sigma_data must be above 0; got"):
        TrigFlow(sigma_data)
