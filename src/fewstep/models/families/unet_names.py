"""The names of a U-Net's layers in Stability's own code, which files of other programs use."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping


def stability_names(layers: Collection[str], config: Mapping[str, object]) -> dict[str, str]:
    """The layers of a diffusers UNet under the names of Stability's code (`input_blocks.4.1.proj_in`)."""
    per_block = config["layers_per_block"]
    assert isinstance(per_block, int)
    attentive = {int(layer.split(".")[1]) for layer in layers if re.match(r"up_blocks\.\d+\.attentions\.", layer)}
    spelled = {layer: _stability_name(layer, per_block, attentive) for layer in layers}
    return {name: layer for layer, name in spelled.items() if name is not None}


_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_IN_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _stability_name(layer: str, per_block: int, attentive: Collection[int]) -> str | None:
    if layer in _OUTSIDE:
        return _OUTSIDE[layer]
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", layer):
        kind, index, rest = found.groups()
        place = 2 * int(index) + (kind == "attentions")
        return f"middle_block.{place}.{_IN_RESNET.get(rest, rest)}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", layer)
    if found is None:
        return None
    way, block, kind, index, rest = found.groups()
    if way == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * (per_block + 1)}.0.op"
        place = 1 + int(block) * (per_block + 1) + int(index)
        return f"input_blocks.{place}.{int(kind == 'attentions')}.{_IN_RESNET.get(rest, rest)}"
    if kind == "upsamplers":
        return f"output_blocks.{int(block) * (per_block + 1) + per_block}.{1 + (int(block) in attentive)}.conv"
    place = int(block) * (per_block + 1) + int(index)
    return f"output_blocks.{place}.{int(kind == 'attentions')}.{_IN_RESNET.get(rest, rest)}"
