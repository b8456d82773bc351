"""Networks of published shapes without weights: to know the names of layers, sizes and memory."""

from __future__ import annotations

import torch
from torch import nn

from fewstep.models.config import Config

_AUTOENCODER: Config = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}


def blank(part: str, arguments: Config) -> nn.Module:
    """A part of a model of Stability's on the meta device: its modules and shapes, and no memory.

    arguments  that differ from the libraries' defaults, which are those of SD 1.x
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        if part == "unet":
            return UNet2DConditionModel(**arguments)
        if part == "vae":
            return AutoencoderKL(**{**_AUTOENCODER, **arguments})
        encoder = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
        return encoder(CLIPTextConfig(**arguments))
