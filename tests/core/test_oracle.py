"""The oracle itself: its pieces are checked against definitions, so that a test which trusts it may be trusted."""

from __future__ import annotations

import pytest
import torch

from fewstep.core.schedules import CLEAN, DiscreteSchedule, RectifiedFlow
from oracle import GaussianWorld, MixtureWorld

SD = DiscreteSchedule.from_betas()
X = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("t", [0, 19, 500, 999])
def test_the_mixture_denoiser_is_tweedies_formula(t: int) -> None:
    """E[x_0 | x_t] = (x_t + sigma^2 d/dx log p(x_t)) / alpha, with p by differentiating the oracle's own CDF."""
    world = MixtureWorld(SD)
    x = X.clone().requires_grad_()
    density = torch.autograd.grad(world.cdf(x, t).sum(), x, create_graph=True)[0]
    score = torch.autograd.grad(density.log().sum(), x)[0]
    expected = (X + SD.sigma(t) ** 2 * score) / SD.alpha(t)
    torch.testing.assert_close(world.denoise(X, t), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [19, 500, 999])
def test_a_mixture_of_one_is_the_gaussian(t: int) -> None:
    one = torch.ones(1, dtype=torch.float64)
    gaussian, mixture = GaussianWorld(SD, s=0.7), MixtureWorld(SD, one, 0.3 * one, 0.7 * one)
    torch.testing.assert_close(mixture.denoise(X, t), gaussian.denoise(X, t, 0.3))
    torch.testing.assert_close(mixture.flow(X, t, CLEAN), gaussian.f(X, t, 0.3), rtol=1e-7, atol=1e-7)


def test_the_flow_obeys_its_differential_equation() -> None:
    """d(x / alpha) / d(sigma / alpha) = eps = (x - alpha x_0) / sigma, by central differences."""
    fine = RectifiedFlow(time_scale=20_000)
    world, t = MixtureWorld(fine), 9_000
    later, earlier = world.flow(X, t, t + 1) / fine.alpha(t + 1), world.flow(X, t, t - 1) / fine.alpha(t - 1)
    rate = (later - earlier) / (fine.sigma(t + 1) / fine.alpha(t + 1) - fine.sigma(t - 1) / fine.alpha(t - 1))
    eps = (X - fine.alpha(t) * world.denoise(X, t)) / fine.sigma(t)
    torch.testing.assert_close(rate, eps, rtol=1e-6, atol=1e-6)


def test_guidance_of_a_gaussian_is_another_gaussian() -> None:
    world, mu, w, t = GaussianWorld(SD), 0.5, 3.0, 600
    c, u = world.denoise(X, t, mu), world.denoise(X, t, world.uncond)
    torch.testing.assert_close(c + w * (c - u), world.denoise(X, t, world.guided_mu(mu, w)))
