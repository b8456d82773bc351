"""The starter's autoencoder: 128x128 pictures to 8x8x16 latents and back, an `AutoencoderKL` with a narrow top.

Two thirds of the time of such a network goes into its full-resolution layers, so those have 16 channels; the capacity
sits where pictures are small. Trained with L1 + L2 + gradient loss, latents bounded by a small penalty and blurred by a
little noise. At the end every latent channel is brought to mean 0 and deviation 1 inside the 1x1 convolutions on both
sides of the latents, so that `scaling_factor` is 1 and the diffusion model sees whitened data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recipes.emoji import art

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

LATENT_NOISE = 0.05
BOUND = 1e-3


def build() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(16, 16, 48, 96, 192),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=art.SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=True,  # the trained decoder reaches 4.5e9 inside, far over float16
    )
    return vae.to(memory_format=torch.channels_last)


def load(folder: Path) -> AutoencoderKL:
    """What the recipe has made of it so far."""
    from diffusers import AutoencoderKL

    vae: AutoencoderKL = AutoencoderKL.from_pretrained(folder / "vae").float()
    return vae.to(memory_format=torch.channels_last)


class Pixels:
    """Pictures in memory as bytes; `pixels[rows]` is float32 (B, 3, 128, 128) in [-1, 1]."""

    def __init__(self, folder: Path, *, held_out: bool, device: str = "cpu") -> None:
        pictures, pixels = art.load(folder)
        keep = torch.tensor([picture.held_out == held_out for picture in pictures])
        self.pictures = [picture for picture in pictures if picture.held_out == held_out]
        self.bytes = torch.from_numpy(pixels)[keep].permute(0, 3, 1, 2).to(device)

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        chosen = self.bytes[rows] if isinstance(rows, slice) else self.bytes[rows.to(self.bytes.device)]
        return (chosen.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def mode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    latents: Tensor = vae.encode(pixels).latent_dist.mode()
    return latents


class Reconstruction:
    """The objective: |d| + d^2 + |gradient of d|, d = decoded - picture."""

    def __init__(self, vae: AutoencoderKL, pixels: Pixels, *, freeze_encoder: bool = False) -> None:
        self.vae, self.pixels, self.freeze_encoder = vae, pixels, freeze_encoder
        if freeze_encoder:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x = self.pixels[rows]
        with torch.set_grad_enabled(not self.freeze_encoder):
            z = mode(self.vae, x)
        noise = torch.randn(z.shape, generator=generator).to(z)
        d = self.vae.decode(z + LATENT_NOISE * noise).sample - x
        l1, l2 = d.abs().mean(), d.square().mean()
        gradient = d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()
        bound = BOUND * z.square().mean()
        return {"loss": l1 + l2 + gradient + bound, "l1": l1, "l2": l2, "deviation": z.std()}


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    chunks = pixels.split(32)
    return torch.cat([vae.decode(mode(vae, chunk)).sample.clamp(-1, 1) for chunk in chunks])


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Decibels for each picture of two (B, 3, H, W) in [-1, 1]: 10 log10(4 / mean squared error)."""
    return 10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))


@torch.no_grad()
def standardize(vae: AutoencoderKL, pixels: Pixels) -> None:
    """Fold (z - mean) / deviation into `quant_conv`, its inverse into `post_quant_conv`; make the posterior a point.

    The decoded pictures do not change: both convolutions are 1x1, so no border sees a different padding.
    """
    z = torch.cat([mode(vae, pixels[slice(i, i + 64)]) for i in range(0, len(pixels), 64)])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    before.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    before.bias[:channels].sub_(mean).div_(deviation)
    before.weight[channels:] = 0
    before.bias[channels:] = -12  # log variance: a sample differs from the mode by 0.0025 of a deviation
    after.bias += (after.weight[:, :, 0, 0] @ mean.unsqueeze(1)).squeeze(1)
    after.weight *= deviation.view(1, -1, 1, 1)
