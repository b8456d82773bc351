"""Precision, recall, density and coverage against loops that follow their definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.evaluate.metrics.neighbourhoods import NEIGHBOURS, Neighbourhoods


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_neighbourhoods_by_their_definition() -> None:
    x, y = randn(18, 3) * 1.2 + 0.3, randn(21, 3, seed=1)

    def radius(z: Tensor, i: int) -> float:
        return sorted(float((z[i] - other).norm()) for j, other in enumerate(z) if j != i)[NEIGHBOURS - 1]

    ours, theirs = [radius(x, i) for i in range(18)], [radius(y, j) for j in range(21)]
    far = [[float((a - b).norm()) for b in y] for a in x]
    found = Neighbourhoods.of(x, y, 3)
    inside = [[far[i][j] < theirs[j] for j in range(21)] for i in range(18)]
    assert found.precise.tolist() == [float(any(row)) for row in inside]
    assert found.dense.tolist() == [sum(row) / NEIGHBOURS for row in inside]
    assert found.coverage() == sum(any(row[j] for row in inside) for j in range(21)) / 21
    assert found.recall() == sum(any(far[i][j] < ours[i] for i in range(18)) for j in range(21)) / 21
    assert found.nearest.tolist() == [min(range(21), key=row.__getitem__) for row in far]
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 1.0])
    there = [i for i in range(18) if weights[i // 3] > 0]
    assert found.coverage(weights) == sum(any(inside[i][j] for i in there) for j in range(21)) / 21


def test_the_same_set_covers_itself_and_a_far_one_nothing() -> None:
    x = randn(30, 4)
    same, far = Neighbourhoods.of(x, x, 1), Neighbourhoods.of(x + 1000, x, 1)
    assert (float(same.precise.mean()), same.recall(), same.coverage()) == (1.0, 1.0, 1.0)
    assert (float(far.precise.mean()), far.recall(), far.coverage(), float(far.dense.sum())) == (0.0, 0.0, 0.0, 0.0)
