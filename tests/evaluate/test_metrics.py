"""Every formula against loops that follow its definition, against torchmetrics, or against a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from fewstep.evaluate.metrics import (
    NEIGHBOURS,
    KernelSums,
    Neighbourhoods,
    cosine_score,
    mean_pairwise_distance,
    polynomial_kernel,
    retrieved,
    vendi_score,
)


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


def test_vendi_score_of_known_sets() -> None:
    assert float(vendi_score(torch.ones(6, 3))) == pytest.approx(1.0)
    assert float(vendi_score(torch.eye(6))) == pytest.approx(6.0)
    twins = torch.eye(3).repeat_interleave(2, dim=0)
    sets = torch.stack([twins, torch.eye(6)[:, :3] + torch.eye(6)[:, 3:]])
    assert vendi_score(sets).tolist() == pytest.approx([3.0, 3.0])
    # one third and two thirds: exp of the entropy of that
    uneven = torch.eye(2)[[0, 1, 1]]
    assert float(vendi_score(uneven)) == pytest.approx(math.exp(math.log(3) - 2 / 3 * math.log(2)))


def test_mean_pairwise_distance() -> None:
    assert float(mean_pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))) == pytest.approx(5.0)
    assert float(mean_pairwise_distance(torch.tensor([[0.0], [1.0], [3.0]]))) == pytest.approx(2.0)


def test_cosine_score_of_known_angles() -> None:
    words = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    pictures = torch.tensor([[2.0, 0.0], [1.0, 3**0.5], [-1.0, 0.0]])
    assert cosine_score(pictures, words).tolist() == pytest.approx([100.0, 50.0, 0.0])


def test_retrieval_counts_ties_as_lost() -> None:
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    pictures = torch.tensor([[0.9, 0.1], [0.2, 5.0], [1.0, 0.9]])
    assert retrieved(pictures, words, torch.tensor([0, 1, 1])).tolist() == [0.0, 1.0, 0.0]
