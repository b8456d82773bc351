"""Pictures (PIL) to pixels (tensors in [-1, 1]) and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor


def to_pixels(image: Image.Image, height: int, width: int) -> Tensor:
    """A picture, `fitted`, as (1, 3, height, width) float32 in [-1, 1]."""
    array = np.array(fitted(image, height, width), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1.0


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB of exactly this size: transparent parts on white, scaled to cover, cropped in the middle."""
    if image.mode == "RGB" and image.size == (width, height):
        return image
    return ImageOps.fit(_on_white(image), (width, height), Image.Resampling.LANCZOS)


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels (B, 3, H, W) in [-1, 1] to an array (B, H, W, 3), contiguous as picture coders want it."""
    array = (pixels.clamp(-1.0, 1.0) + 1.0).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return array.contiguous().cpu().numpy()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] to B pictures."""
    return [Image.fromarray(picture) for picture in to_bytes(pixels)]


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # PIL would cut off everything above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert("RGB")
