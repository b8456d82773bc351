"""Aspect buckets: sizes of about the same area, and which of them a picture loses least in."""

from __future__ import annotations

import math

WIDEST = 2.0  # the longest side to the shortest
SMALLEST = 0.7  # of the area
STEPS = 16  # a side is a multiple of about so much of the square's


def bucket_sizes(size: tuple[int, int], unit: int) -> list[tuple[int, int]]:
    """(height, width) in pixels, rising in height, none larger in area than `size`, which is one of them.

    unit  what every side is a multiple of, at least
    """
    area = size[0] * size[1]
    step = unit * math.ceil(math.sqrt(area) / STEPS / unit)
    shorts = range(step, math.isqrt(area) + 1, step)
    pairs = {(short, min(area // short, int(short * WIDEST)) // step * step) for short in shorts}
    fitting = {(short, long) for short, long in pairs if short * long >= SMALLEST * area}
    return sorted({*fitting, *((w, h) for h, w in fitting), size})


def nearest_size(image: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The one of `sizes` (height, width) in which a picture of (width, height) is cropped least."""
    aspect = math.log(image[0] / image[1])
    return min(sizes, key=lambda size: abs(math.log(size[1] / size[0]) - aspect))
