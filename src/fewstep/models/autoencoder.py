"""`Autoencoder`: pictures to latents as the diffusion model sees them, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewstep.models.config import Config, number, wholes
from fewstep.models.placement import dtype_of

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Decoder = Callable[[Tensor], Tensor]


def config_of(network: nn.Module) -> Config:
    """That of one of diffusers' networks."""
    config: Config = network.config  # type: ignore[assignment]
    return config


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """z = (encode(x) - shift) scale, with the scale and the shift of its config.

    module   diffusers' own, or a lean one
    decoder  what decodes in its place, if anything does: unscaled latents to pixels
    fast     reads the fast decoder that the model brings, if it brings one
    """

    module: AutoencoderKL
    decoder: Decoder | None = None
    fast: Callable[[], nn.Module] | None = None

    @property
    def config(self) -> Config:
        return config_of(self.module)

    @property
    def scale(self) -> float:
        return float(number(self.config, "scaling_factor"))

    @property
    def shift(self) -> float:
        return float(number(self.config, "shift_factor", 0.0))

    @property
    def _levels(self) -> Sequence[int]:
        """Channels of its levels, from the pixels down."""
        levels = wholes(self.config, "block_out_channels", ())
        return levels or wholes(self.config, "encoder_block_out_channels")

    @property
    def pixels_per_latent(self) -> int:
        """Along a side."""
        return int(2 ** (len(self._levels) - 1))

    @property
    def first_width(self) -> int:
        """Channels at the full size."""
        return self._levels[0]

    @property
    def modules(self) -> list[nn.Module]:
        """The networks that are called."""
        return [self.module, *([self.decoder] if isinstance(self.decoder, nn.Module) else [])]

    @torch.no_grad()
    def encode(self, pixels: Tensor, device: torch.device) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] to latents (B, C, h, w) float32; a KL encoder gives its mode.

        device  where it runs
        """
        encoded = self.module.encode(pixels.to(device, dtype_of(self.module)))
        if hasattr(encoded, "latent_dist"):
            latents: Tensor = encoded.latent_dist.mode()
        else:
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        return (latents.float() - self.shift) * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor, device: torch.device) -> Tensor:
        """Latents (B, C, h, w) to pixels (B, 3, H, W) float32, in about [-1, 1]."""
        unscaled = (latents / self.scale + self.shift).to(device, dtype_of(self.module))
        return self.decode_unscaled(unscaled).float()

    def decode_unscaled(self, latents: Tensor) -> Tensor:
        """What a runtime may do instead."""
        if self.decoder is not None:
            return self.decoder(latents)
        decoded: Tensor = self.module.decode(latents, return_dict=False)[0]
        return decoded
