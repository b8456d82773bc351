"""A U-Net out of a file, in Stability's names or in diffusers'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.models.config import Config
from fewstep.models.tensor_file import read_tensors

UNET = "model.diffusion_model."
W_EMBEDDING = "time_embedding.cond_proj.weight"
STABILITY_W_EMBEDDING = f"{UNET}time_embed.cond_proj.weight"


def read_unet(path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
    """A U-Net alone, or out of a whole checkpoint, of the shape of `config` (the embedding of w, by the file)."""
    from diffusers import UNet2DConditionModel

    tensors, _ = read_tensors(path)
    w = tensors.get(
        STABILITY_W_EMBEDDING, tensors.get(W_EMBEDDING, tensors.get(STABILITY_W_EMBEDDING.removeprefix(UNET)))
    )
    config = dict(config) | {"time_cond_proj_dim": None if w is None else w.shape[1]}
    if any(key.startswith(("input_blocks.", "time_embed.")) for key in tensors):
        tensors = {f"{UNET}{key}": value for key, value in tensors.items()}
    if any(key.startswith(UNET) for key in tensors):
        return converted_unet(tensors, config, dtype)
    with torch.device("meta"):
        network: nn.Module = UNet2DConditionModel.from_config(config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.to(dtype)


def converted_unet(checkpoint: Mapping[str, Tensor], config: Config, dtype: torch.dtype) -> nn.Module:
    """diffusers' conversion, and the embedding of w, which it does not know of."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    weights = convert_ldm_unet_checkpoint(dict(checkpoint), config=config)
    if (embedding := checkpoint.get(STABILITY_W_EMBEDDING)) is not None:
        weights[W_EMBEDDING] = embedding
    with torch.device("meta"):
        network: nn.Module = UNet2DConditionModel.from_config(config)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(dtype)
