"""What the starter's network and its autoencoder are both made of."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class Resnet(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))): normalisation, activation and convolution, twice (1512.03385).

    time_width  of what it reads of the time, already activated; None: nothing
    """

    def __init__(self, into: int, out: int, groups: int, eps: float, time_width: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, into, eps)
        self.conv1 = nn.Conv2d(into, out, 3, padding=1)
        self.time_emb_proj = None if time_width is None else nn.Linear(time_width, out)
        self.norm2 = nn.GroupNorm(groups, out, eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = None if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return cast("Tensor", (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h)


class Down(nn.Module):
    """Half the size; without `padding` a row and a column of zeros come at the end alone."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padded = padding > 0
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.conv(x if self.padded else F.pad(x, (0, 1, 0, 1))))


class Up(nn.Module):
    """Twice the size, or `size`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        larger = F.interpolate(x, scale_factor=2.0) if size is None else F.interpolate(x, size=size)
        return cast("Tensor", self.conv(larger))
