"""Large samples in windows of the trained size, blended where they overlap (MultiDiffusion, 2302.08113)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.schedule import Time

OVERLAP = 0.25  # of a window, at least; more where they do not come out even

Span: TypeAlias = "slice[int, int, int]"  # places along a side
Crop = Callable[[Cond, Span, Span], Cond]


@dataclass(frozen=True, eq=False)
class Tiled(Generic[Cond]):
    """A `Denoise` whose x_0 is, at every place, the weighted mean of what another says in the windows around it.

    size  (height, width) of a window; a sample that is no larger along either side is left to `denoise` as it is
    crop  crop(cond, rows, columns): the part of a conditioning that belongs to a window

    The mean of x_0 at a fixed x_t is the mean of the steps that follow from it (their eq. 5), whatever the sampler.
    The weights fall off from a window's middle to its edges, so that no edge is seen.
    """

    denoise: Denoise[Cond]
    size: tuple[int, int]
    crop: Crop[Cond]

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        height, width = x_t.shape[-2:]
        if height <= self.size[0] and width <= self.size[1]:
            return self.denoise(x_t, t, cond, w)
        total = torch.zeros_like(x_t)
        weight = x_t.new_zeros(height, width)
        for rows, columns in windows((height, width), self.size):
            x0 = self.denoise(x_t[..., rows, columns], t, self.crop(cond, rows, columns), w)
            share = _ramp(rows)[:, None].to(x_t) * _ramp(columns).to(x_t)
            total[..., rows, columns] += share * x0
            weight[rows, columns] += share
        return total / weight


def windows(sample: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[Span, Span]]:
    """Evenly spread windows (rows, columns), as few as cover the sample and overlap by `OVERLAP` of their size."""
    for rows in _places(sample[0], size[0]):
        for columns in _places(sample[1], size[1]):
            yield rows, columns


def _places(length: int, size: int) -> list[Span]:
    if length <= size:
        return [slice(0, length)]
    count = math.ceil((length - size) / max(1, math.floor(size * (1 - OVERLAP)))) + 1
    starts = [round(number * (length - size) / (count - 1)) for number in range(count)]
    return [slice(start, start + size) for start in starts]


def _ramp(places: Span) -> Tensor:
    """1, 2, 3, …, 3, 2, 1 over a window."""
    up = torch.arange(1, places.stop - places.start + 1)
    return torch.minimum(up, up.flip(0))
