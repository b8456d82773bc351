"""The analytic world: data whose denoiser, consistency function and probability flow are known in closed form.

Everything here is float64, written from the theory and not from fewstep's solvers or conversions; of fewstep it uses
only the schedule's numbers. Samples have the shape (B, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewstep.core.samplers.ode import SolverState
from fewstep.core.schedule import Schedule, Time


def column(values: Tensor | float) -> Tensor:
    """Scalars or (B,) as (B, 1) or (1, 1)."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1)


@dataclass(frozen=True)
class GaussianWorld:
    """Data N(mu, s^2), where the conditioning is mu itself and `uncond` the mu of the empty prompt.

    The denoiser is affine in mu, so guidance by w is the world of mu + w (mu - uncond), and everything stays exact.
    """

    schedule: Schedule
    s: float = 0.7
    uncond: float = -0.4

    def guided_mu(self, mu: float | Tensor, w: float | Tensor | None) -> Tensor:
        return column(mu) + column(0.0 if w is None else w) * (column(mu) - self.uncond)

    def spread(self, t: Time) -> Tensor:
        """The standard deviation of x_t."""
        return (column(self.schedule.alpha(t)) ** 2 * self.s**2 + column(self.schedule.sigma(t)) ** 2).sqrt()

    def denoise(self, x_t: Tensor, t: Time, cond: Any, w: float | Tensor | None = None) -> Tensor:
        """E[x_0 | x_t] = mu + s^2 alpha (x_t - alpha mu) / (alpha^2 s^2 + sigma^2); unguided, whatever w."""
        alpha = column(self.schedule.alpha(t))
        return column(cond) + self.s**2 * alpha * (x_t - alpha * column(cond)) / self.spread(t) ** 2

    def flow(self, x_t: Tensor, t: Time, s: Time, mu: Tensor) -> Tensor:
        """The probability flow from t to s: alpha_s mu + (x_t - alpha_t mu) spread_s / spread_t."""
        alpha_t, alpha_s = column(self.schedule.alpha(t)), column(self.schedule.alpha(s))
        return alpha_s * mu + (x_t - alpha_t * mu) * self.spread(s) / self.spread(t)

    def f(self, x_t: Tensor, t: Time, cond: Any, w: float | Tensor | None = None) -> Tensor:
        """The guided consistency function mu + s (x_t - alpha mu) / sqrt(alpha^2 s^2 + sigma^2)."""
        return self.flow(x_t, t, self.schedule.clean, self.guided_mu(cond, w))


@dataclass(frozen=True)
class ExactFlow:
    """A `Solver` that makes no error: it follows the guided flow of a `GaussianWorld` and never asks the teacher."""

    world: GaussianWorld
    w: float | Tensor
    order = 0

    def init(self) -> None:
        return None

    def step(
        self, denoise: Any, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        mu = self.world.guided_mu(cond, self.w)
        return self.world.flow(x_t, t, s, mu), SolverState(x_t, self.world.schedule.log_snr(t))


@dataclass(frozen=True)
class MixtureWorld:
    """Data sum_i p_i N(m_i, d_i^2) in one dimension. `cond` and w are not used."""

    schedule: Schedule
    weights: Tensor = field(default_factory=lambda: torch.tensor([0.35, 0.65], dtype=torch.float64))
    means: Tensor = field(default_factory=lambda: torch.tensor([-1.0, 0.8], dtype=torch.float64))
    deviations: Tensor = field(default_factory=lambda: torch.tensor([0.3, 0.4], dtype=torch.float64))

    def denoise(self, x_t: Tensor, t: Time, cond: Any = None, w: Any = None) -> Tensor:
        """The posterior mean: each component's own, weighted by its share of p(x_t)."""
        alpha, centre, deviation = self._marginal(t)
        distance = (x_t - centre) / deviation
        share = torch.softmax(self.weights.log() - deviation.log() - distance**2 / 2, dim=1)
        means = self.means + self.deviations**2 * alpha * distance / deviation
        return (share * means).sum(1, keepdim=True)

    def flow(self, x_t: Tensor, t: Time, s: Time) -> Tensor:
        """The probability flow from t to s, by quantiles.

        The flow carries the law of x_t into that of x_s and, in one dimension, never swaps two points: so it carries
        each quantile into the same quantile, F_s^-1(F_t(x_t)). The inverse is found by bisection.
        """
        level = self.cdf(x_t, t)
        low, high = torch.full_like(x_t, -12.0), torch.full_like(x_t, 12.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.cdf(middle, s) > level
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    def cdf(self, x_t: Tensor, t: Time) -> Tensor:
        """P(X_t <= x_t)."""
        _, centre, deviation = self._marginal(t)
        return (self.weights * torch.special.ndtr((x_t - centre) / deviation)).sum(1, keepdim=True)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Data (count, 1)."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, generator=generator, dtype=torch.float64)
        return (self.means[component] + self.deviations[component] * noise)[:, None]

    def _marginal(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """alpha_t, and each component's centre and deviation in the law of x_t."""
        alpha, sigma = column(self.schedule.alpha(t)), column(self.schedule.sigma(t))
        return alpha, alpha * self.means, (alpha**2 * self.deviations**2 + sigma**2).sqrt()


def output_of(kind: str, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this kind says of x_t = alpha x_0 + sigma eps; TrigFlow for sigma_data 1."""
    alpha, sigma = column(alpha), column(sigma)
    return {
        "epsilon": eps,
        "v_prediction": alpha * eps - sigma * x_0,
        "sample": x_0,
        "flow_prediction": eps - x_0,
        "trigflow": alpha * eps - sigma * x_0,
    }[kind]


def output_from_x0(kind: str, x_0: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this kind says where it means x_0 at x_t, from x_t = alpha x_0 + sigma eps."""
    return output_of(kind, x_0, (x_t - column(alpha) * x_0) / column(sigma), alpha, sigma)
