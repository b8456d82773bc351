"""The order in which a run sees its data: a fresh permutation for each epoch, computable at any position."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def rows_at(seen: int, batch_size: int, num_rows: int, *, seed: int = 0) -> Tensor:
    """Rows (batch_size,) int64 that follow after `seen` rows: nothing to save, a resumed run meets the same batches."""
    places = range(seen, seen + batch_size)
    return torch.tensor([int(_permutation(seed, place // num_rows, num_rows)[place % num_rows]) for place in places])


def grouped_rows_at(seen: int, batch_size: int, groups: Sequence[Tensor], *, seed: int = 0) -> Tensor:
    """The same, where only rows of one group may share a batch; `seen` is a multiple of the batch size.

    Each group goes round by itself, and after e epochs n rows have been asked for as many whole batches as e n rows
    fill: over a run every row is seen equally often, however small its group.
    """
    sizes = [len(group) for group in groups]
    step = seen // batch_size
    epochs = range((step + len(sizes) + 1) * batch_size // sum(sizes) + 2)
    epoch = bisect.bisect_right(epochs, step, key=lambda e: _begun(e, sizes, batch_size)) - 1
    turns = [
        (group, index)
        for group, size in enumerate(sizes)
        for index in range(epoch * size // batch_size, (epoch + 1) * size // batch_size)
    ]
    turn = step - _begun(epoch, sizes, batch_size)
    group, index = turns[int(_permutation(seed, epoch, len(turns))[turn])]
    return groups[group][rows_at(index * batch_size, batch_size, sizes[group], seed=seed)]


def _begun(epoch: int, sizes: Sequence[int], batch_size: int) -> int:
    """Batches before an epoch."""
    return sum(epoch * size // batch_size for size in sizes)


@lru_cache(maxsize=64)
def _permutation(seed: int, epoch: int, num_rows: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return torch.randperm(num_rows, generator=generator)
