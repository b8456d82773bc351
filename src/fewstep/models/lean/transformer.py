"""The blocks of the starter's network in which places of a picture look at each other and at the words."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class Transformer(nn.Module):
    """Features (B, C, h, w) that have looked at token states (B, L, text_width)."""

    def __init__(self, width: int, heads: int, text_width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, text_width)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x))
        rows, width, height, across = h.shape
        h = h.permute(0, 2, 3, 1).reshape(rows, height * across, width)
        for block in self.transformer_blocks:
            h = block(h, text)
        h = h.reshape(rows, height, across, width).permute(0, 3, 1, 2).contiguous()
        return cast("Tensor", self.proj_out(h) + x)


class TransformerBlock(nn.Module):
    """Attention to itself, to the words, and a layer for each place."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, width)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, text_width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        own = self.norm1(x)
        x = self.attn1(own, own) + x
        x = self.attn2(self.norm2(x), text) + x
        return cast("Tensor", self.ff(self.norm3(x)) + x)


class Attention(nn.Module):
    """What each place of x (B, N, C) takes from the places of `at` (B, M, D)."""

    def __init__(self, width: int, heads: int, width_at: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width_at, width, bias=False)
        self.to_v = nn.Linear(width_at, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        q, k, v = (self._split(each) for each in (self.to_q(x), self.to_k(at), self.to_v(at)))
        taken = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return cast("Tensor", self.to_out[0](taken.reshape(x.shape[0], -1, self.heads * q.shape[-1])))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, heads, N, C / heads)."""
        # not len(x): what OpenVINO is traced from would have the example's number of rows for ever
        return x.view(x.shape[0], -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """GEGLU (2002.05202), four times as wide inside; the layer between has no number of its own in diffusers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class Gated(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)
