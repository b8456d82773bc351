"""The consistency function f(x_t, t) -> x_0, and the scalings that make it the identity on clean data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise, toward
from fewstep.core.schedule import Schedule, Time, broadcast, real

Scalings = Callable[[Time], tuple[Tensor, Tensor]]


def boundary_scalings(t: Time, *, timestep_scaling: float = 10.0, sigma_data: float = 0.5) -> tuple[Tensor, Tensor]:
    """LCM's (c_skip, c_out) at time t, float64 (Luo et al. 2023, 2310.04378): with s = timestep_scaling t,

    c_skip = sigma_data^2 / (s^2 + sigma_data^2),  c_out = s / sqrt(s^2 + sigma_data^2).

    (1, 0) at t = 0 and below, so at clean data; on LCM's training grid, t >= 19, within 1e-5 of (0, 1).
    """
    s = real(t).clamp(min=0) * timestep_scaling
    norm = s**2 + sigma_data**2
    return sigma_data**2 / norm, s / norm.sqrt()


def hard_scalings(t: Time, *, boundary: float = 0) -> tuple[Tensor, Tensor]:
    """(1, 0) at and below the boundary, (0, 1) above: f is x_t, then the bare estimate (PCM, 2405.18407)."""
    inside = (torch.as_tensor(t) <= boundary).float()
    return inside, 1.0 - inside


def no_scalings(t: Time) -> tuple[Tensor, Tensor]:
    """(0, 1): f is the bare estimate, for networks whose estimate is x_t at clean data by itself.

    That is every prediction but x_0, on a schedule whose boundary is clean data: with sigma = 0, x_0 = x_t. So it is
    for rectified flow, f = z - sigma u, and TrigFlow (sCM, 2410.11081, eq. 6).
    """
    time = real(t)
    return torch.zeros_like(time), torch.ones_like(time)


def scalings_of(schedule: Schedule, timestep_scaling: float = 10.0) -> Scalings:
    """What keeps f the identity at the boundary, t = 0.

    On a table that is the first time, with noise in it still: LCM's scalings. On a flow it is clean data: none.
    """
    if schedule.clean == 0:
        return no_scalings
    return partial(boundary_scalings, timestep_scaling=timestep_scaling)


@dataclass(frozen=True, eq=False)
class ConsistencyFunction(Generic[Cond]):
    """f(x_t, t) = c_skip(t) x_t + c_out(t) denoise(x_t, t): clean data in one call (LCM, sec. 4.1).

    Itself a `Denoise`, so whatever takes a denoiser takes an f.
    """

    denoise: Denoise[Cond]
    scalings: Scalings = boundary_scalings

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        c_skip, c_out = (broadcast(c, x_t) for c in self.scalings(t))
        return c_skip * x_t + c_out * self.denoise(x_t, t, cond, w)


@dataclass(frozen=True, eq=False)
class TrajectoryFunction(Generic[Cond]):
    """g(x_t, t) = x_m at t_m, one exact step along the estimate of x_0, to any earlier time and not only to clean data.

    alpha_m x_0 + sigma_m eps with the eps that x_t and x_0 imply (TCD, Zheng et al. 2024, 2402.19159, eq. 15; PCM,
    Wang et al. 2024, 2405.18407, eq. 8); on a flow it is z_t - (t - t_m) u, and of a network that reads t_m the flow
    map (AnyFlow, 2605.13724). At t = t_m it is the identity by construction: no boundary scalings.

    t_m  where the step of each sample ends, a number or (B,), at or below every t that it is asked about
    """

    denoise: Denoise[Cond]
    schedule: Schedule
    t_m: Time

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        return self.schedule.transfer(x_t, toward(self.denoise, self.t_m)(x_t, t, cond, w), t, self.t_m)
