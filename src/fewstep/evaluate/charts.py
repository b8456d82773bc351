"""Curves and points as SVG, coloured by the page's style sheet: no script, no fonts, no pictures of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 30
LOG_FROM = 12.0  # the ratio of the largest to the smallest value above which an axis is logarithmic


@dataclass(frozen=True)
class Point:
    """`x`, `y` with its interval; `label` is what hovering shows."""

    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Series:
    """A line of the chart, in colour number `color`."""

    name: str
    color: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axis:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        a, b, v = (math.log(x) if self.log else x for x in (self.low, self.high, max(value, self.low)))
        return self.start + (v - a) / (b - a) * (self.end - self.start)


def curves(series: Sequence[Series], level: Point | None, form: Callable[[float], str], about: str) -> str:
    """Values against step counts with their bands; `level` is a value to compare with, drawn across."""
    points = [point for line in series for point in line.points]
    xs = sorted({point.x for point in points})
    x_axis = Axis(xs[0] / 1.12, xs[-1] * 1.12, LEFT, WIDTH - RIGHT, log=True)
    y_axis = _y_axis([*points, *([] if level is None else [level])])
    parts = [*_grid(y_axis, form), *(_tick(x_axis, x, f"{x:g}") for x in xs)]
    if level is not None:
        parts.append(_level(level, y_axis))
    for line in series:
        parts += _band(line, x_axis, y_axis)
    for line in series:
        parts += _line(line, x_axis, y_axis)
    return _svg(parts, about)


def scatter(
    series: Sequence[Series],
    form: Callable[[float], str],
    x_form: Callable[[float], str],
    about: str,
    size: tuple[int, int] = (820, 360),
) -> str:
    """Values against a cost, both better when lower; the points that nothing beats in both are joined."""
    width, height = size
    points = [point for line in series for point in line.points]
    xs = [point.x for point in points]
    x_axis = Axis(min(xs) / 1.25, max(xs) * 1.35, LEFT, width - RIGHT, log=True)
    y_axis = _y_axis(points, height)
    parts = [*_grid(y_axis, form, width), *(_tick(x_axis, x, x_form(x), height) for x in _nice_logs(x_axis))]
    front = pareto(points)
    path = " ".join(f"{x_axis.at(p.x):.1f},{y_axis.at(p.y):.1f}" for p in front)
    parts.append(f'<polyline class="front" points="{path}"/>')
    for line in series:
        for point in line.points:
            x, y = x_axis.at(point.x), y_axis.at(point.y)
            bar = ""
            if math.isfinite(point.low):
                bar = f'<path class="bar" d="M{x:.1f},{y_axis.at(point.low):.1f}V{y_axis.at(point.high):.1f}"/>'
            mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if point in front else 4.5}"/>'
            steps = point.label.partition(" step")[0].rpartition(" ")[2]
            text = f'<text class="mark" x="{x + 8:.1f}" y="{y - 7:.1f}">{escape(steps)}</text>'
            parts.append(f'<g class="s{line.color}"><title>{escape(point.label)}</title>{bar}{mark}{text}</g>')
    return _svg(parts, about, size)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those than which no other is better in both x and y, from left to right."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not front or point.y < front[-1].y:
            front.append(point)
    return front


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _nice_logs(axis: Axis) -> list[float]:
    powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    fitting = [value for value in every if axis.low <= value <= axis.high]
    return fitting if len(fitting) <= 8 else [v for v in fitting if f"{v:e}"[0] == "1"]


def _y_axis(points: Sequence[Point], height: int = HEIGHT) -> Axis:
    lows = [p.low if math.isfinite(p.low) else p.y for p in points]
    highs = [p.high if math.isfinite(p.high) else p.y for p in points]
    values = [p.y for p in points]
    log = min(values) > 0 and max(values) / min(values) > LOG_FROM
    if log:
        low = max(min(lows), min(values) / 2) if min(lows) > 0 else min(values) / 2
        return Axis(low / 1.15, max(highs) * 1.15, height - BOTTOM, TOP, log=True)
    low, high = min(lows), max(highs)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    floor = 0.0 if 0 <= low < 0.35 * high else low - room
    return Axis(floor, high + room, height - BOTTOM, TOP, log=False)


def _grid(axis: Axis, form: Callable[[float], str], width: int = WIDTH) -> list[str]:
    ticks = _nice_logs(axis) if axis.log else nice_ticks(axis.low, axis.high)
    return [
        f'<path class="grid" d="M{LEFT},{axis.at(v):.1f}H{width - RIGHT}"/>'
        f'<text class="tick" text-anchor="end" x="{LEFT - 7}" y="{axis.at(v) + 4:.1f}">{escape(form(v))}</text>'
        for v in ticks
    ]


def _tick(axis: Axis, value: float, text: str, height: int = HEIGHT) -> str:
    return (
        f'<text class="tick" text-anchor="middle" x="{axis.at(value):.1f}" y="{height - BOTTOM + 18}">'
        f"{escape(text)}</text>"
    )


def _level(level: Point, axis: Axis) -> str:
    top, bottom = axis.at(level.high), axis.at(level.low)
    box = f'<rect x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{top:.1f}" height="{max(bottom - top, 0.5):.1f}"/>'
    line = f'<path d="M{LEFT},{axis.at(level.y):.1f}H{WIDTH - RIGHT}"/>'
    return f'<g class="level"><title>{escape(level.label)}</title>{box}{line}</g>'


def _band(line: Series, x_axis: Axis, y_axis: Axis) -> list[str]:
    if len(line.points) < 2 or not all(math.isfinite(p.low) for p in line.points):
        return []
    above = [f"{x_axis.at(p.x):.1f},{y_axis.at(p.high):.1f}" for p in line.points]
    below = [f"{x_axis.at(p.x):.1f},{y_axis.at(p.low):.1f}" for p in reversed(line.points)]
    return [f'<polygon class="band s{line.color}" points="{" ".join([*above, *below])}"/>']


def _line(line: Series, x_axis: Axis, y_axis: Axis) -> list[str]:
    places = [(x_axis.at(p.x), y_axis.at(p.y)) for p in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(p.label)}</title></circle>'
        for (x, y), p in zip(places, line.points, strict=True)
    )
    return [f'<g class="s{line.color}"><polyline points="{path}"/>{marks}</g>']


def _svg(parts: Sequence[str], about: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    width, height = size
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about)}">'
        f"{''.join(parts)}</svg>"
    )
