"""The published shapes of Stable Diffusion's families, without weights: to know the layers' names, sizes and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_VIT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_OPEN_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
_OPEN_BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


@dataclass(frozen=True)
class Architecture:
    """The arguments that differ from diffusers' and transformers' defaults (which are those of SD 1.x)."""

    name: str
    unet: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    text_encoder_2: Mapping[str, Any] | None = None
    vae: Mapping[str, Any] = field(default_factory=dict)

    def network(self, part: str) -> nn.Module:
        """A part on the meta device: its modules and shapes, and no memory."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        with torch.device("meta"):
            if part == "unet":
                return UNet2DConditionModel(**self.unet)
            if part == "vae":
                return AutoencoderKL(**{**_AUTOENCODER, **self.vae})
            config = CLIPTextConfig(**getattr(self, part))
            return (CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection)(config)

    @property
    def parts(self) -> tuple[str, ...]:
        second = () if self.text_encoder_2 is None else ("text_encoder_2",)
        return ("unet", "vae", "text_encoder", *second)


_AUTOENCODER: Mapping[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}

SD1 = Architecture(
    name="SD 1.x",
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    text_encoder=_VIT_L,
)
SD2 = Architecture(
    name="SD 2.x",
    unet={
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    text_encoder=_OPEN_H | {"projection_dim": 512, "hidden_act": "gelu"},
)
SDXL = Architecture(
    name="SDXL",
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    text_encoder=_VIT_L,
    text_encoder_2=_OPEN_BIG_G | {"projection_dim": 1280, "hidden_act": "gelu"},
    vae={"scaling_factor": 0.13025},
)

SSD_1B = Architecture(  # a distilled SDXL (2401.02677)
    name="SSD-1B",
    unet={
        **SDXL.unet,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
    },
    text_encoder=SDXL.text_encoder,
    text_encoder_2=SDXL.text_encoder_2,
    vae=SDXL.vae,
)

BY_FAMILY = {each.name: each for each in (SD1, SD2, SDXL, SSD_1B)}
BY_CONTEXT_WIDTH = {768: SD1, 1024: SD2, 2048: SDXL}
