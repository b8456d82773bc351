"""Noise that belongs to a picture and not to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
