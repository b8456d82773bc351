"""Round ticks, the front that nothing beats, and points where they belong."""

from __future__ import annotations

import math
import re

import pytest

from fewstep.evaluate.charts import Point, Series, curves, nice_ticks, pareto, scatter


def point(x: float, y: float) -> Point:
    return Point(x, y, y - 1, y + 1, f"a, {x:g} steps: {y:g}")


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [point(1, 9), point(2, 5), point(3, 6), point(4, 2), point(2.5, 5), point(1, 12), point(9, 1)]
    assert [(p.x, p.y) for p in pareto(points)] == [(1, 9), (2, 5), (4, 2), (9, 1)]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.12, 0.47), (-0.05, 0.2), (3, 4000), (99.5, 99.9)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    step = ticks[1] - ticks[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_higher_values_are_higher_up_and_more_steps_further_right() -> None:
    svg = curves([Series("a", 0, (point(1, 20), point(4, 10), point(8, 15)))], point(1, 12), str, "about")
    places = [tuple(map(float, pair)) for pair in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    (x1, y1), (x4, y4), (x8, y8) = places
    assert x1 < x4 < x8
    assert y1 < y8 < y4
    assert x4 - x1 == pytest.approx(2 * (x8 - x4), abs=0.2)  # doublings are equally far apart


def test_equal_values_and_names_with_signs_are_drawn() -> None:
    series = [Series("<b>", 0, (Point(1, 5, math.nan, math.nan, '<"&'), Point(2, 5, math.nan, math.nan, "b")))]
    for svg in (curves(series, None, str, "<about>"), scatter(series, str, str, "<about>")):
        assert '<"&' not in svg
        assert "nan" not in svg.lower()
