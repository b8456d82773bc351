"""The order in which a run sees its data: a fresh permutation for each epoch, computable at any position."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def rows_at(seen: int, batch_size: int, num_rows: int, *, seed: int = 0) -> Tensor:
    """Rows (batch_size,) int64 that follow after `seen` rows: nothing to save, a resumed run meets the same batches."""
    places = range(seen, seen + batch_size)
    return torch.tensor([int(_permutation(seed, place // num_rows, num_rows)[place % num_rows]) for place in places])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_rows: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return torch.randperm(num_rows, generator=generator)
