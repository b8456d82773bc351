"""The starter's U-Net: two levels, most of its weights where the latents are 4x4, small enough for a laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from recipes.emoji.words import WIDTH

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def unet(channels: tuple[int, int]) -> UNet2DConditionModel:
    """v-prediction of 8x8x16 latents. The words enter by cross-attention at 4x4, and pooled beside the time."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=tuple(width // 64 if width % 64 == 0 else width // 32 for width in channels),
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
    )
    return network.to(memory_format=torch.channels_last)
