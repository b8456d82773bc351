"""A composition before it is painted: refusing one costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

CANVAS = 128
WHITE = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Sketch:
    """How to paint it (RGB, 128x128), what is said of it, and what it combines."""

    picture: Callable[[], Image.Image]
    captions: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...] = ()


def on_white(image: Image.Image) -> Image.Image:
    """RGBA to RGB."""
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(image, (0, 0), image)
    return canvas


def blank() -> Image.Image:
    return Image.new("RGB", (CANVAS, CANVAS), WHITE)
