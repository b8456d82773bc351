"""TAESD's decoder (Bohan 2023): diffusers' `DecoderTiny`, of one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TinyDecoder(nn.Module):
    """Latents (B, into, h, w) to (B, out, H, W) in about [-1, 1].

    blocks  how many at each size; between two sizes the sides double
    """

    def __init__(self, into: int, out: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(into, width, 3, padding=1), nn.ReLU()]
        for size, count in enumerate(blocks):
            layers += [TinyBlock(width) for _ in range(count)]
            if size < len(blocks) - 1:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.layers(torch.tanh(latents / 3) * 3)
        return pixels.mul(2).sub(1)


class TinyBlock(nn.Module):
    """relu(x + three convolutions of x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)
