"""What the families with a U-Net share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.errors import InvalidModel
from fewstep.models.latent_model import Traits

SIZES = "time_ids"  # as diffusers calls the sizes and crops that SDXL's kind of network reads
LEAST_LORA_STEPS = 6  # of an LCM-LoRA at SDXL's full size: fewer leave a grid


def reads_sizes(unet: Mapping[str, Any]) -> bool:
    """Whether sizes and crops are inputs of the network (SDXL), beside pooled text states."""
    return unet.get("addition_embed_type") == "text_time"


def reads_w(unet: Mapping[str, Any]) -> bool:
    """Whether the guidance w is an input of the network."""
    return unet.get("time_cond_proj_dim") is not None


def check_channels(origin: Path, in_channels: int, latent_channels: int) -> None:
    """Raises `InvalidModel` for a network that reads more than the latents: a mask, or another picture."""
    if in_channels > latent_channels:
        what = "an inpainting model" if in_channels == 2 * latent_channels + 1 else f"of {in_channels} input channels"
        raise InvalidModel(f"{origin} is {what}; fewstep paints with ordinary text-to-image models (masks included)")


def traits_of(unet: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> Traits | None:
    """From the configs of the two; None where they leave to diffusers' defaults what must be known."""
    levels = autoencoder.get("block_out_channels") or autoencoder.get("encoder_block_out_channels")
    size, blocks = unet.get("sample_size"), unet.get("block_out_channels")
    if not levels or not size or not blocks or "in_channels" not in unet:
        return None
    unit = 2 ** (len(levels) - 1)
    height, width = (size, size) if isinstance(size, int) else size
    return Traits(
        default_size=(height * unit, width * unit),
        latent_channels=unet["in_channels"],
        pixels_per_latent=unit,
        multiple=unit * 2 ** (len(blocks) - 1),
        sizes=SIZES if reads_sizes(unet) else None,
        least_lora_steps=LEAST_LORA_STEPS if reads_sizes(unet) else 0,
    )
