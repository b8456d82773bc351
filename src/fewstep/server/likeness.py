"""Whether a camera's frame shows anything new: thumbnails, compared on the CPU, so that no device waits."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageStat

from fewstep.imaging.channels import on_white
from fewstep.server.coding import decode

THUMBNAIL = (32, 32)


def read(data: bytes) -> tuple[Image.Image, Image.Image]:
    """A frame, and its thumbnail in grey."""
    image = decode(data, "the frame")
    return image, on_white(image).convert("L").resize(THUMBNAIL, Image.Resampling.BOX)


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two thumbnails, 0 .. 1."""
    return float(ImageStat.Stat(ImageChops.difference(a, b)).mean[0]) / 255
