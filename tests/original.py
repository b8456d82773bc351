"""A model's folder as one `.safetensors` file in the names of Stability's code: what most of the world shares."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.models.families.unet_names import stability_names
from fewstep.models.locating import read_json

Tensors = dict[str, Tensor]

_OPEN_CLIP = (
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm", "ln_final"),
)


def write_original(folder: Path, path: Path, *, vae: bool = True, dtype: torch.dtype = torch.float32) -> Path:
    """Write the model in `folder` (SD 1.x or SDXL) as `path`."""
    is_sdxl = (folder / "text_encoder_2").is_dir()
    tensors = {f"model.diffusion_model.{name}": x for name, x in _unet(folder / "unet").items()}
    if vae:
        tensors |= {f"first_stage_model.{name}": x for name, x in _vae(folder / "vae").items()}
    first = "conditioner.embedders.0.transformer." if is_sdxl else "cond_stage_model.transformer."
    text = _weights(folder / "text_encoder")
    tensors |= {f"{first}text_model.{name.removeprefix('text_model.')}": x for name, x in text.items()}
    if is_sdxl:
        second = _open_clip(_weights(folder / "text_encoder_2"))
        tensors |= {f"conditioner.embedders.1.model.{name}": x for name, x in second.items()}
    save_file({name: x.to(dtype).contiguous().clone() for name, x in tensors.items()}, path)
    return path


def _weights(part: Path) -> Tensors:
    (file,) = part.glob("*.safetensors")
    return load_file(file)


def _unet(part: Path) -> Tensors:
    tensors, config = _weights(part), read_json(part / "config.json")
    layers = {name.rsplit(".", 1)[0] for name in tensors}
    spelled = {layer: name for name, layer in stability_names(layers, config).items()}
    spelled["time_embedding.cond_proj"] = "time_embed.cond_proj"
    return {f"{spelled[layer]}.{kind}": x for name, x in tensors.items() for layer, kind in [name.rsplit(".", 1)]}


def _vae(part: Path) -> Tensors:
    tensors = _weights(part)
    last = len(read_json(part / "config.json")["block_out_channels"]) - 1

    def up(found: re.Match[str]) -> str:
        return f"decoder.up.{last - int(found[1])}."

    renamed: Tensors = {}
    for name, x in tensors.items():
        new = re.sub(r"decoder\.up_blocks\.(\d+)\.", up, name)
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.", r"encoder.down.\1.", new)
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = re.sub(r"\.resnets\.(\d+)\.", r".block.\1.", new)
        new = new.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = re.sub(r"to_([qkv])\.", r"\1.", new).replace("to_out.0", "proj_out")
            x = x[..., None, None] if x.ndim == 2 else x
        renamed[new] = x
    return renamed


def _open_clip(tensors: Tensors) -> Tensors:
    renamed: Tensors = {}
    for name, x in tensors.items():
        new = name
        for ours, theirs in _OPEN_CLIP:
            new = new.replace(ours, theirs)
        if name == "text_projection.weight":
            renamed["text_projection"] = x.T
        elif found := re.fullmatch(r"(.+)\.self_attn\.([qkv])_proj\.(weight|bias)", new):
            rows = renamed.setdefault(f"{found[1]}.attn.in_proj_{found[3]}", torch.empty(3 * len(x), *x.shape[1:]))
            place = "qkv".index(found[2]) * len(x)
            rows[place : place + len(x)] = x
        else:
            renamed[new] = x
    return renamed
