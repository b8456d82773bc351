"""Noise that belongs to a picture and not to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fewstep.core.schedule import finest

PARALLEL = 0.9995  # cosine above which the arc is a straight line to float32


class Noise(Protocol):
    """What a sampler draws from."""

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Unit noise (B, *shape), new at every call."""
        ...


class PictureNoise:
    """One random stream per picture: a seed draws the same noise alone and in company.

    Stateful: every `draw` moves all streams on. The values are diffusers' for a list of CPU generators.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        """seeds: one int in [0, 2^64) per picture, at least one."""
        if not seeds:
            raise ValueError("no seeds were given; noise takes one per picture")
        for seed in seeds:
            if not 0 <= seed < 2**64:
                raise ValueError(f"a seed lies in 0 .. 2^64 - 1; got {seed}")
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Unit noise (len(seeds), *shape), float32 on the CPU."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self._generators])


class NoiseBetween:
    """For each picture noise on the arc from one seed's to another's: unit noise again, at every fraction."""

    def __init__(self, first: Sequence[int], second: Sequence[int], fractions: Sequence[float]) -> None:
        """One seed from each, and a fraction in [0, 1], for every picture."""
        if not len(first) == len(second) == len(fractions):
            raise ValueError(f"{len(first)} and {len(second)} seeds and {len(fractions)} fractions; give as many")
        self._first, self._second = PictureNoise(first), PictureNoise(second)
        self._fractions = torch.tensor(fractions, dtype=torch.float64)

    def draw(self, shape: Sequence[int]) -> Tensor:
        return slerp(self._first.draw(shape), self._second.draw(shape), self._fractions)


def slerp(a: Tensor, b: Tensor, fractions: Tensor) -> Tensor:
    """Spherical interpolation of rows (B, ...), by their directions as a whole: a at 0, b at 1.

    sin((1 - u) theta) / sin(theta) a + sin(u theta) / sin(theta) b, theta being the angle between a and b (Shoemake
    1985); a straight line where they are all but parallel.
    """
    x, y = (rows.to(finest(rows.device)).flatten(1) for rows in (a, b))
    u = fractions.to(x).view(-1, 1)
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=1)[:, None].clamp(-1.0, 1.0)
    theta = cosine.acos()
    on_arc = (((1 - u) * theta).sin() * x + (u * theta).sin() * y) / theta.sin()
    mixed = torch.where(cosine.abs() > PARALLEL, x + u * (y - x), on_arc)
    return mixed.view_as(a).to(a.dtype)
