"""The kernel distance against loops that follow its definition, and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from fewstep.evaluate.metrics.kernel import KernelSums, polynomial_kernel


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel(a: Tensor, b: Tensor) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


def mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased, by its definition."""
    within = [[kernel(a, b) for j, b in enumerate(z) if i != j] for z in (x, y) for i, a in enumerate(z)]
    n, m = len(x), len(y)
    across = sum(kernel(a, b) for a in x for b in y) / (n * m)
    return sum(map(sum, within[:n])) / (n * (n - 1)) + sum(map(sum, within[n:])) / (m * (m - 1)) - 2 * across


@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_kernel_distance_by_its_definition(group_size: int) -> None:
    x, y = randn(12, 5), randn(9, 5, seed=1) + 0.5
    assert KernelSums.of(x, y, group_size).distance() == pytest.approx(mmd(x, y), rel=1e-10)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kernel_distance_as_torchmetrics_has_it() -> None:
    class Pixels(nn.Module):
        num_features = 12

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).double() / 64

    generator = torch.Generator().manual_seed(0)
    real, generated = (torch.randint(low, 256, (40, 3, 2, 2), generator=generator) for low in (0, 90))
    theirs = KernelInceptionDistance(feature=Pixels(), subsets=1, subset_size=40)
    theirs.update(real.to(torch.uint8), real=True)
    theirs.update(generated.to(torch.uint8), real=False)
    ours = KernelSums.of(generated.flatten(1) / 64, real.flatten(1) / 64, 4).distance()
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


def test_kernel_distance_is_unbiased() -> None:
    """Two samples of one distribution are at distance 0 on average, however small they are."""
    values = [KernelSums.of(randn(8, 3, seed=i), randn(8, 3, seed=i + 1000), 1).distance() for i in range(400)]
    mean, deviation = torch.tensor(values).mean(), torch.tensor(values).std()
    assert abs(mean) < 3 * deviation / math.sqrt(400)


def test_kernel_distance_of_repeated_groups() -> None:
    """A group that counts twice counts twice; a picture is never paired with itself."""
    x, y = randn(6, 4), randn(5, 4, seed=1)
    taken = [0, 0, 2]
    rows = [(g, i) for g in taken for i in (2 * g, 2 * g + 1)]
    # a repeated group pairs with its repetition, but for the very same picture
    total = count = 0.0
    for a, (_, i) in enumerate(rows):
        for b, (_, j) in enumerate(rows):
            if i != j and a != b:
                total, count = total + kernel(x[i], x[j]), count + 1
    sums = KernelSums.of(x, y, 2)
    fixed = sum(kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 20
    across = sum(kernel(x[i], b) for _, i in rows for b in y) / (len(rows) * len(y))
    weights = torch.tensor([2.0, 0.0, 1.0])
    assert sums.distance(weights) == pytest.approx(total / count + fixed - 2 * across, rel=1e-10)


def test_paired_sets_leave_out_their_pairs() -> None:
    x = randn(8, 4)
    y = x + 0.01 * randn(8, 4, seed=1)
    k = polynomial_kernel(x, y)
    across = (k.sum() - k.trace()) / (8 * 7)
    own, other = (polynomial_kernel(z, z) for z in (x, y))
    exact = sum((q.sum() - q.trace()) / 56 for q in (own, other)) - 2 * across
    assert KernelSums.of(x, y, 2, paired=True).distance() == pytest.approx(float(exact), rel=1e-10)
