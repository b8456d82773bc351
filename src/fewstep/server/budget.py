"""How long a session's pictures take, and what a time budget pays for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FORGET = 0.2  # of the estimate, at each new measurement
DECODING = 1  # counts as so many steps
SMALLEST = 0.5  # of a side: below that a model no longer draws what it was trained on


@dataclass(frozen=True)
class Effort:
    """What a picture asks for: its steps and size in pixels, and what refining it `upscale` times larger takes."""

    steps: int
    height: int
    width: int
    upscale: float = 1.0
    refine_steps: int = 0

    @property
    def second(self) -> float:
        """The work of refining what was made larger, for a pixel of the first picture."""
        return (self.refine_steps + DECODING) * self.upscale**2 if self.upscale > 1 else 0.0

    @property
    def work(self) -> float:
        return (self.steps + DECODING + self.second) * self.height * self.width

    def less_than(self, full: Effort) -> str:
        """In words: `1 of 4 steps, 96 x 96 instead of 128 x 128`."""
        parts = [f"{self.steps} of {full.steps} steps"] if self.steps < full.steps else []
        if (self.height, self.width) != (full.height, full.width):
            parts.append(f"{self.width} x {self.height} instead of {full.width} x {full.height}")
        return ", ".join(parts)


class Budget:
    """Learns from each picture how long a unit of work takes here and now, other people's share included."""

    def __init__(self) -> None:
        self._seconds: float | None = None  # for one pixel in one step

    def measure(self, seconds: float, effort: Effort) -> None:
        new = seconds / effort.work
        self._seconds = new if self._seconds is None else (1 - FORGET) * self._seconds + FORGET * new

    def afford(self, full: Effort, seconds: float, unit: int) -> Effort:
        """`full`, or as much of it as `seconds` pay for: fewer steps first, then smaller sides, in whole `unit`s.

        Nothing is known before the first picture: then all of it.
        """
        if self._seconds is None or full.work * self._seconds <= seconds:
            return full
        work = seconds / self._seconds
        steps = int(work / (full.height * full.width) - full.second) - DECODING
        if steps >= 1:
            return replace(full, steps=min(steps, full.steps))
        smallest = replace(full, steps=1)
        scale = max(SMALLEST, min(1.0, math.sqrt(work / smallest.work)))
        height, width = (max(unit, int(scale * side / unit) * unit) for side in (full.height, full.width))
        return replace(smallest, height=height, width=width)
