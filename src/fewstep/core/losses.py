"""The training losses. Everything random (noise, times, w) is an argument; nothing here draws.

LCM is Luo et al. 2023 (2310.04378); iCT is Song & Dhariwal 2023 (2310.14189).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.core.denoise import Denoise, Denoiser
from fewstep.core.guidance import ClassifierFreeGuidance
from fewstep.core.samplers.ode import Solver
from fewstep.core.schedule import Schedule, Time

Metric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Loss:
    """loss: the mean of per_sample (B,), both with gradient; prediction, target (B, ...): the compared."""

    loss: Tensor
    per_sample: Tensor
    prediction: Tensor
    target: Tensor


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of d^2 over the elements of each sample: (B,)."""
    return (prediction - target).square().flatten(1).mean(1)


def huber(prediction: Tensor, target: Tensor, c: float = 1e-3) -> Tensor:
    """Mean of sqrt(d^2 + c^2) - c over the elements: (B,). Nearly |d| at this c; not `pseudo_huber`."""
    difference = (prediction - target).flatten(1)
    return ((difference.square() + c**2).sqrt() - c).mean(1)


def pseudo_huber(prediction: Tensor, target: Tensor, c: float | None = None) -> Tensor:
    """sqrt(||d||^2 + c^2) - c over each sample of D elements: (B,); c = 0.00054 sqrt(D) (iCT, sec. 3.3)."""
    squared, c = _squared_norm(prediction, target, c)
    return (squared + c**2).sqrt() - c


def cauchy(prediction: Tensor, target: Tensor, c: float | None = None) -> Tensor:
    """log(1 + ||d||^2 / (2 c^2)): (B,), least moved by outliers (Dao et al. 2025, 2502.01441); c as above."""
    squared, c = _squared_norm(prediction, target, c)
    return torch.log1p(squared / (2.0 * c**2))


def _squared_norm(prediction: Tensor, target: Tensor, c: float | None) -> tuple[Tensor, float]:
    difference = (prediction - target).flatten(1)
    return difference.square().sum(1), 0.00054 * math.sqrt(difference.shape[1]) if c is None else c


METRICS: dict[str, Metric] = {"l2": l2, "huber": huber, "pseudo_huber": pseudo_huber, "cauchy": cauchy}


def diffusion_loss(
    denoiser: Denoiser,
    x_0: Tensor,
    noise: Tensor,
    t: Tensor,
    cond: Any,
    w: float | Tensor | None = None,
    *,
    metric: Metric = l2,
) -> Loss:
    """||network(x_t, t) - target||^2 with x_t = alpha_t x_0 + sigma_t noise (DDPM, 2006.11239, eq. 14).

    The target is what the network predicts: noise, v, x_0, ... x_0, noise: (B, ...); t: (B,) times of the schedule.
    """
    schedule = denoiser.schedule
    x_t = schedule.add_noise(x_0, noise, t)
    prediction = denoiser.output(x_t, t, cond, w).to(x_t.dtype)
    target = denoiser.prediction.target(x_0, noise, schedule.alpha(t), schedule.sigma(t)).to(x_t.dtype)
    return _compare(prediction, target, metric)


def consistency_distillation_loss(
    f: Denoise,
    f_target: Denoise,
    teacher: Denoise,
    solver: Solver,
    schedule: Schedule,
    grid: Tensor,
    k: float,
    x_0: Tensor,
    noise: Tensor,
    indices: Tensor,
    cond: Any,
    uncond: Any,
    w: float | Tensor,
    *,
    metric: Metric = l2,
    substeps: int = 1,
    floor: Time = 0,
) -> Loss:
    """Latent consistency distillation (LCM, Algorithm 1): metric(f(x_t, t), f_target(x_s, s)), where

    t = grid[indices], s = max(t - k, floor), x_t = alpha_t x_0 + sigma_t noise, and x_s is where the guided
    teacher's ODE leads from x_t. At index 0 of LCM's grid that is 19 -> 0, not -1.

    f, f_target   the student and its target; the gradient flows through f only, so f_target may be f itself
    teacher       unguided; guided here with uncond and w. f and f_target are given w
    grid, k       rising times, such as `training_grid()`, and the skipping interval: 20 for 50 of 1000
    x_0, noise    (B, ...): latents and unit noise; indices: (B,) int64 into grid; w: a number or (B,)
    substeps      solver steps from t to s. A multistep solver is DDIM in its first step: it wants two or more
    floor         the earliest s, a time or (B,): 0, or the end of the phase that t lies in (PCM, 2405.18407)

    With `TrajectoryFunction`s for f and f_target it is TCD's loss (2402.19159, eq. 17) and PCM's.
    """
    t, s, x_t = _pair(schedule, grid, k, x_0, noise, indices, floor)
    with torch.no_grad():
        guided = ClassifierFreeGuidance(teacher, uncond, w)
        x_s = _follow(solver, guided, x_t, t, s, cond, substeps)
        target = f_target(x_s, s, cond, w)
    return _compare(f(x_t, t, cond, w), target, metric)


def consistency_training_loss(
    f: Denoise,
    f_target: Denoise,
    schedule: Schedule,
    grid: Tensor,
    k: float,
    x_0: Tensor,
    noise: Tensor,
    indices: Tensor,
    cond: Any,
    w: float | Tensor | None = None,
    *,
    metric: Metric = l2,
    floor: Time = 0,
    guidance: Denoise | None = None,
) -> Loss:
    """Latent consistency fine-tuning (LCM, Algorithm 4): distillation without a teacher.

    As `consistency_distillation_loss`, but x_s = alpha_s x_0 + sigma_s noise, with the same noise as x_t.

    guidance  what w added to x_0 in the model before it was fine-tuned (`LearntGuidance`): it is added to the picture,
              so that w goes on meaning something. Without it the student learns pictures without guidance, whatever w
              it is told, as in the paper
    """
    t, s, x_t = _pair(schedule, grid, k, x_0, noise, indices, floor)
    with torch.no_grad():
        x_s = schedule.add_noise(x_0, noise, s)
        if guidance is not None:
            x_s = schedule.transfer(x_t, x_0 + guidance(x_t, t, cond, w), t, s)
        target = f_target(x_s, s, cond, w)
    return _compare(f(x_t, t, cond, w), target, metric)


def _pair(
    schedule: Schedule, grid: Tensor, k: float, x_0: Tensor, noise: Tensor, indices: Tensor, floor: Time
) -> tuple[Tensor, Tensor, Tensor]:
    """The later time t, the earlier time s, and x_t."""
    t = grid.to(indices.device)[indices]
    return t, (t - k).clamp(min=floor), schedule.add_noise(x_0, noise, t)


def _follow(solver: Solver, denoise: Denoise, x_t: Tensor, t: Tensor, s: Tensor, cond: Any, substeps: int) -> Tensor:
    """The ODE from t to s in equal steps; between whole times (int64) the steps are whole as well."""
    rounding = None if t.is_floating_point() else "floor"
    state = solver.init()
    for i in range(substeps):
        start, end = (t + torch.div((s - t) * j, substeps, rounding_mode=rounding) for j in (i, i + 1))
        x_t, state = solver.step(denoise, x_t, start, end, cond, state)
    return x_t


def _compare(prediction: Tensor, target: Tensor, metric: Metric) -> Loss:
    per_sample = metric(prediction, target)
    return Loss(per_sample.mean(), per_sample, prediction, target)
