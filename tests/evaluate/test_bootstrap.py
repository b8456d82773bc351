"""Intervals that hold what they promise, and differences of pairs."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure, difference


def test_draws_depend_on_the_number_of_groups_alone() -> None:
    draws = bootstrap.weights(50, 20)
    assert draws.sum(1).tolist() == [50.0] * 20
    assert torch.equal(draws, bootstrap.weights(50, 20))


def test_the_error_of_a_mean_is_the_known_one() -> None:
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bootstrap.mean_of(x, bootstrap.weights(400, 2000))
    assert found.value == pytest.approx(float(x.mean()))
    assert found.error == pytest.approx(float(x.std()) / 20, rel=0.06)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 300 samples from an exponential distribution, about 95 % have the mean, 1, in their interval."""
    generator = torch.Generator().manual_seed(1)
    draws = bootstrap.weights(80, 100)
    inside = 0
    for _ in range(300):
        found = bootstrap.mean_of(-torch.rand(80, generator=generator, dtype=torch.float64).log(), draws)
        inside += found.low <= 1.0 <= found.high
    assert 0.90 <= inside / 300 <= 0.985


def test_all_ways_to_draw_agree() -> None:
    x = torch.rand(30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    draws = bootstrap.weights(30, 40)

    def mean(weights: torch.Tensor | None) -> float:
        return float(x.mean() if weights is None else (weights @ x) / weights.sum())

    by_function, by_mean = bootstrap.measure(mean, draws), bootstrap.mean_of(x, draws)
    ratio = bootstrap.ratio_of(x, torch.ones(30), draws)
    assert by_function.draws == pytest.approx(by_mean.draws)
    assert ratio.draws == pytest.approx(by_mean.draws)


def test_pairs_show_differences_that_are_lost_between_strangers() -> None:
    """The same prompts, a constant 0.1 better: certain in pairs, invisible without."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(60, generator=generator, dtype=torch.float64)
    b = a + 0.1 + 0.01 * torch.randn(60, generator=generator, dtype=torch.float64)
    draws = bootstrap.weights(60, 200)
    one, other = bootstrap.mean_of(b, draws), bootstrap.mean_of(a, draws)
    together, apart = difference(one, other, paired=True), difference(one, other, paired=False)
    assert together.significant
    assert not apart.significant
    assert together.value == apart.value == pytest.approx(0.1, abs=0.01)


def test_chance_differences_are_claimed_as_seldom_as_they_should_be() -> None:
    generator = torch.Generator().manual_seed(4)
    draws = bootstrap.weights(60, 500)
    claims = 0
    for _ in range(300):
        one, other = (bootstrap.mean_of(torch.randn(60, generator=generator).double(), draws) for _ in range(2))
        claims += difference(one, other, paired=True).significant
    assert claims / 300 < 0.09


def test_without_draws_there_is_no_error_and_no_certainty() -> None:
    assert math.isnan(Measure(1.0).error)
    assert not difference(Measure(1.0), Measure(2.0), paired=True).significant
    assert difference(Measure(1.0, (1.0, 1.0)), Measure(1.0, (1.0, 1.0)), paired=True).p == 1.0
