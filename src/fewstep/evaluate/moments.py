"""Means and covariances in float64 that can be gathered in pieces, anywhere and in any order, and be put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewstep.errors import InvalidRequest


@dataclass(frozen=True, eq=False)
class Moments:
    """Of a set of feature vectors: their number (weights counted), their mean (D,), and the scatter around it (D, D).

    `a + b` are the moments of both sets together (Chan et al. 1979), to rounding the same however a set was cut.
    """

    count: float
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor, weights: Tensor | None = None) -> Moments:
        """Of rows (N, D), each counted `weights` (N,) times, by default once."""
        x = features.double()
        w = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
        count = float(w.sum())
        mean = (w @ x) / count
        centred = x - mean
        return cls(count, mean, (centred * w[:, None]).T @ centred)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    @property
    def covariance(self) -> Tensor:
        """(D, D), unbiased; raises `InvalidRequest` for a single picture, which has none."""
        if self.count < 2:
            raise InvalidRequest("one picture has no covariance: a Fréchet distance takes at least two on either side")
        return self.scatter / (self.count - 1)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): the squared 2-Wasserstein distance of two Gaussians
    (Dowson & Landau 1982; FID, Heusel et al. 2017, 1706.08500, is this over Inception's features).

    The trace of the root is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), which is symmetric: no complex numbers appear.
    """
    crossed = torch.linalg.eigvalsh(a.root @ b.covariance @ a.root).clamp(min=0).sqrt().sum()
    trace = a.covariance.trace() + b.covariance.trace() - 2 * crossed
    return float((a.mean - b.mean).square().sum() + trace)
