"""The metrics: how far a prediction is from its target, a number for each sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


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
