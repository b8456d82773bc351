"""The autoencoder goes on, encoder and decoder, on compositions: two things, coloured ground, hats, which it never saw.

A penalty holds the latents of plain drawings where they were, so that what has been trained on them stays of use.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fewstep.train.config import FitConfig
from recipes.emoji.autoencoder import BOUND, LATENT_NOISE, mode, psnr
from recipes.emoji.channels_last_norm import use_channels_last_norms
from recipes.emoji.compositions import Composition, draw_shard
from recipes.emoji.pool import Pool, Shard
from recipes.emoji.world import World

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

HOLD = 0.1  # weight of the distance to the old latents
CONFIG = FitConfig(
    pictures=1_100_000,  # ten times what it had seen before
    batch_size=32,
    lr=0.004,
    adam_lr=5e-4,
    warmup=4_000,
    cooldown=0.3,
    ema_halflife=4_000,
    precision="bfloat16",
)


def pictures(world: World, seed: int, number: int, size: int) -> Shard:
    """A shard for a `Pool`: pixels uint8 (N, 128, 128, 3), and which of them are plain drawings."""
    pixels, _, kinds = draw_shard(world, seed, number * size, size)
    return {"pixels": torch.from_numpy(pixels), "plain": torch.tensor([kind == "plain" for kind in kinds])}


def as_input(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


class Sharpening:
    """The objective: |d| + d^2 + |gradient of d|, d = decoded - picture, and `HOLD` times the way that plain drawings'
    latents have gone; bfloat16 wants the channels side by side."""

    def __init__(self, vae: AutoencoderKL, pool: Pool) -> None:
        self.vae, self.pool = vae, pool
        self.old = copy.deepcopy(vae).eval().requires_grad_(False)
        for each in (vae, self.old):
            each.to(memory_format=torch.channels_last)
            use_channels_last_norms(each)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = self.pool.draw(len(rows), generator)
        x, plain = as_input(drawn["pixels"]).to(self.vae.device), drawn["plain"]
        z = mode(self.vae, x)
        noise = torch.randn(z.shape, generator=generator).to(z)
        d = self.vae.decode(z + LATENT_NOISE * noise).sample.float() - x
        l1, l2 = d.abs().mean(), d.square().mean()
        gradient = d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()
        held = self._held(x[plain], z[plain])
        loss = l1 + l2 + gradient + BOUND * z.float().square().mean() + HOLD * held
        return {"loss": loss, "l1": l1, "l2": l2, "held": held}

    def _held(self, x: Tensor, z: Tensor) -> Tensor:
        if not len(x):
            return z.new_zeros(())
        with torch.no_grad():
            target = mode(self.old, x)
        return (z.float() - target.float()).square().mean()


@torch.no_grad()
def ladder(vae: AutoencoderKL, sets: Mapping[str, list[Composition]], most: int = 96) -> dict[str, float]:
    """Mean decibels of each set's first pictures."""
    found = {}
    for kind, some in sets.items():
        pixels = torch.from_numpy(np.stack([each.pixels for each in some[:most]]))
        parts = [as_input(chunk).to(vae.device) for chunk in pixels.split(32)]
        found[kind] = torch.cat([psnr(vae.decode(mode(vae, x)).sample.clamp(-1, 1), x) for x in parts]).mean().item()
    return found
