"""Pictures (PIL) to pixels (tensors in [-1, 1]) and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from fewstep.imaging.channels import on_white
from fewstep.imaging.masks import mask_fitted

SEAM = 1 / 64  # of the larger side: how far a mask's edge is blurred


def to_pixels(image: Image.Image, height: int, width: int) -> Tensor:
    """A picture, `fitted`, as (1, 3, height, width) float32 in [-1, 1]."""
    array = np.array(fitted(image, height, width), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)[None] / 127.5 - 1.0


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB of exactly this size: transparent parts on white, scaled to cover, cropped in the middle."""
    opaque = on_white(image)
    if opaque.size == (width, height):
        return opaque
    return ImageOps.fit(opaque, (width, height), Image.Resampling.LANCZOS)


def mask_weights(mask: Image.Image, height: int, width: int) -> Tensor:
    """A mask, cut like its picture, as (1, 1, height, width) float32 in [0, 1]; 1 is generated anew."""
    cut = mask_fitted(mask, height, width)
    return torch.from_numpy(np.array(cut, dtype=np.float32))[None, None] / 255.0


def composite(generated: Tensor, image: Image.Image, mask: Image.Image) -> Tensor:
    """`generated` (B, 3, H, W) inside the mask, the picture outside, with a soft seam between them."""
    height, width = generated.shape[-2:]
    soft = mask_fitted(mask, height, width).filter(ImageFilter.GaussianBlur(max(height, width) * SEAM))
    weights = mask_weights(soft, height, width).to(generated)
    known = to_pixels(image, height, width).to(generated)
    return known + weights * (generated - known)


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels (B, 3, H, W) in [-1, 1] to an array (B, H, W, 3), contiguous as picture coders want it."""
    array = (pixels.clamp(-1.0, 1.0) + 1.0).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return array.contiguous().cpu().numpy()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] to B pictures."""
    return [Image.fromarray(picture) for picture in to_bytes(pixels)]
