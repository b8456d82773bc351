"""Guidance. Inside the library w is LCM's: y = c + w (c - u); 0 is no guidance and w = guidance_scale - 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.schedule import Time, broadcast


def w_from_guidance_scale(guidance_scale: float) -> float:
    """LCM's w from Imagen's scale (1 = no guidance), the one that users know."""
    return guidance_scale - 1.0


def guidance_scale_from_w(w: float) -> float:
    """Imagen's scale from LCM's w."""
    return w + 1.0


@dataclass(frozen=True, eq=False)
class ClassifierFreeGuidance(Generic[Cond]):
    """A `Denoise` that guides another: c + w (c - u) on x_0 (Ho & Salimans 2022, 2207.12598, eq. 6).

    At a fixed x_t, eps and v are affine in x_0 and the weights 1 + w and -w add up to 1, so to guide x_0 is
    to guide them.

    uncond  the conditioning of u: the empty or the negative prompt
    w       a number or (B,); the number 0 spends no second call
    """

    denoise: Denoise[Cond]
    uncond: Cond
    w: float | Tensor

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        """As `denoise`; the argument w goes on to the network and is not the guidance applied here."""
        c = self.denoise(x_t, t, cond, w)
        if not isinstance(self.w, Tensor) and self.w == 0:
            return c
        u = self.denoise(x_t, t, self.uncond, w)
        return c + broadcast(self.w, c) * (c - u)


@dataclass(frozen=True, eq=False)
class EmbeddedGuidance(Generic[Cond]):
    """A `Denoise` whose network reads w, asked for this w whatever it is called with: one call, and no empty prompt."""

    denoise: Denoise[Cond]
    w: float | Tensor

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        return self.denoise(x_t, t, cond, self.w)


@dataclass(frozen=True, eq=False)
class LearntGuidance(Generic[Cond]):
    """What a network that embeds w adds to its estimate of x_0 for it; called as a `Denoise`.

    Guidance is linear in w (eq. 6, above): where w = 0 was not trained, its effect is told from both ends of the range.

    w_range  that the network was trained in, 0 <= low < high
    """

    denoise: Denoise[Cond]
    w_range: tuple[float, float]

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        low, high = self.w_range
        w = 0.0 if w is None else w
        if low == 0.0:
            return self.denoise(x_t, t, cond, w) - self.denoise(x_t, t, cond, low)
        slope = (self.denoise(x_t, t, cond, high) - self.denoise(x_t, t, cond, low)) / (high - low)
        return broadcast(w, slope) * slope


def w_embedding(w: Tensor, dim: int) -> Tensor:
    """w (B,) as sines and cosines (B, dim) float32, to join a network's time embedding (LCM, sec. 4.2).

    [sin(1000 w f_i), cos(1000 w f_i)] with f_i = 10000^(-i / (dim/2 - 1)), i = 0 .. dim/2 - 1; a zero pads an
    odd dim. All in float32, as released models were trained: phases near 1000 w feel the difference.
    """
    if w.ndim != 1 or dim < 4:
        raise ValueError(f"w must have the shape (B,) and dim be at least 4; got {tuple(w.shape)} and {dim}")
    half = dim // 2
    rate = torch.tensor(math.log(10000.0), dtype=torch.float32) / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -rate).to(w.device)
    phases = (w.float() * 1000.0)[:, None] * frequencies
    embedding = torch.cat([phases.sin(), phases.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, dim % 2))
