"""How long a session's pictures take, and what a time budget pays for."""

from __future__ import annotations

import math
from dataclasses import dataclass

FORGET = 0.2  # of the estimate, at each new measurement
DECODING = 1  # counts as so many steps
SMALLEST = 0.5  # of a side: below that a model no longer paints what it was trained on


@dataclass(frozen=True)
class Effort:
    """What a picture asks for: its steps, and its size in pixels."""

    steps: int
    height: int
    width: int

    @property
    def work(self) -> float:
        return (self.steps + DECODING) * self.height * self.width


class Budget:
    """Learns from each picture how long a unit of work takes here and now, other people's share included."""

    def __init__(self) -> None:
        self._seconds: float | None = None  # for one pixel in one step

    def measure(self, seconds: float, effort: Effort) -> None:
        new = seconds / effort.work
        self._seconds = new if self._seconds is None else (1 - FORGET) * self._seconds + FORGET * new

    def afford(self, wanted: Effort, seconds: float, unit: int) -> Effort:
        """`wanted`, or as much of it as `seconds` pay for: fewer steps first, then smaller sides, in whole `unit`s.

        Nothing is known before the first picture: then all of it.
        """
        if self._seconds is None or wanted.work * self._seconds <= seconds:
            return wanted
        work = seconds / self._seconds
        steps = int(work / (wanted.height * wanted.width)) - DECODING
        if steps >= 1:
            return Effort(min(steps, wanted.steps), wanted.height, wanted.width)
        smallest = Effort(1, wanted.height, wanted.width)
        scale = max(SMALLEST, min(1.0, math.sqrt(work / smallest.work)))
        height, width = (max(unit, int(scale * side / unit) * unit) for side in (wanted.height, wanted.width))
        return Effort(1, height, width)
