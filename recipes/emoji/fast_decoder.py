"""The starter's fast decoder: learns to draw the real pictures from the latents that the autoencoder gave them."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.data.latents import LatentCache
from fewstep.models.fast_decoder import FastDecoder, FastDecoderConfig
from recipes.emoji.autoencoder import Pixels

LATENT_NOISE = 0.08  # a diffusion model's latents are less exact than an encoder's


def build() -> FastDecoder:
    decoder = FastDecoder(FastDecoderConfig(latent_channels=16))
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return decoder


class Drawing:
    """The objective: |d| + d^2 + |gradient of d|, d = decoded - picture, as for the autoencoder."""

    def __init__(self, decoder: FastDecoder, cache: LatentCache, pixels: Pixels) -> None:
        assert len(cache) == len(pixels)
        self.decoder, self.cache, self.pixels = decoder, cache, pixels

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x = self.pixels[rows]
        z = self.cache.latents[rows].to(x)
        z = z + LATENT_NOISE * torch.randn(z.shape, generator=generator).to(z)
        d = self.decoder(z.contiguous(memory_format=torch.channels_last)) - x
        l1, l2 = d.abs().mean(), d.square().mean()
        gradient = d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()
        return {"loss": l1 + l2 + gradient, "l1": l1, "l2": l2}
