"""The names that LoRA files give to a network's layers, and the layers that they mean.

Three spellings are in use for the layer `down_blocks.0.attentions.0.proj_in` of a UNet:

    diffusers  unet.down_blocks.0.attentions.0.proj_in.lora_A.weight   (before PEFT: `.lora.down.weight` and others)
    peft       base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.weight
    kohya      lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight, with an `.alpha` beside it; for SDXL also
               in the names of Stability's own code: lora_unet_input_blocks_4_1_proj_in

Kohya's underscores cannot be read back alone (`to_q` holds one too), so a name is looked up among those of the network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Spelling = Literal["kohya", "diffusers", "peft"]
SPELLINGS: tuple[Spelling, ...] = ("kohya", "diffusers", "peft")
Matrix = Literal["down", "up", "alpha"]

KOHYA_PREFIXES = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_KOHYA = re.compile(r"(lora_unet_|lora_te1_|lora_te2_|lora_te_)(.+)\.(lora_down\.weight|lora_up\.weight|alpha)")
_PART = re.compile(r"(unet|text_encoder_2|text_encoder)\.(?:base_model\.model\.)?(.+)")
_MATRIX = re.compile(
    r"(.+?)(?:\.lora_(A|B)(?:\.\w+)?\.weight"
    r"|(?:\.lora|\.lora_linear_layer)\.(down|up)\.weight"
    r"|(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight"
    r"|(?:\.processor)?\.to_(q|k|v|out)_lora\.alpha"
    r"|(?:\.lora)?\.alpha)"
)
_WHICH: dict[str, Matrix] = {
    "A": "down",
    "B": "up",
    "down": "down",
    "up": "up",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "alpha": "alpha",
}


@dataclass(frozen=True, slots=True)
class LoraKey:
    """A key of a LoRA file, taken apart. `layer` is spelled as in the file where the spelling is kohya's."""

    spelling: Spelling
    part: str
    layer: str
    matrix: Matrix


def read_key(key: str) -> LoraKey | None:
    """The parts of a key; None for what is no key of a plain LoRA."""
    if found := _KOHYA.fullmatch(key):
        prefix, layer, matrix = found.groups()
        return LoraKey("kohya", KOHYA_PREFIXES.get(prefix, "text_encoder"), layer, _WHICH[matrix])
    if key.startswith("base_model.model."):
        spelling, part, rest = "peft", "unet", key.removeprefix("base_model.model.")
    elif found := _PART.fullmatch(key):
        spelling, (part, rest) = "diffusers", found.groups()
    else:
        return None
    if (found := _MATRIX.fullmatch(rest)) is None:
        return None
    layer, *groups = found.groups()
    projection = groups[2] or groups[4]
    if projection:
        layer += {"out": ".to_out.0"}.get(projection, f".to_{projection}")
    matrix = _WHICH[groups[0] or groups[1] or groups[3] or "alpha"]
    return LoraKey(spelling, part, layer, matrix)  # type: ignore[arg-type]


def write_key(spelling: Spelling, part: str, layer: str, matrix: Matrix, *, two_encoders: bool = False) -> str:
    """The key of a network's layer in a file of that spelling; kohya numbers the text encoders of SDXL."""
    if spelling == "kohya":
        first = "lora_te1_" if two_encoders else "lora_te_"
        prefix = {"unet": "lora_unet_", "text_encoder": first, "text_encoder_2": "lora_te2_"}[part]
        return prefix + layer.replace(".", "_") + (".alpha" if matrix == "alpha" else f".lora_{matrix}.weight")
    home = f"{part}." if spelling == "diffusers" else "base_model.model."
    return home + layer + {"down": ".lora_A.weight", "up": ".lora_B.weight", "alpha": ".alpha"}[matrix]


def kohya_names(part: str, layers: Iterable[str], config: Mapping[str, object]) -> dict[str, str]:
    """Kohya's spellings, without the prefix, of a network's layers; `config` is the UNet's."""
    table = {layer.replace(".", "_"): layer for layer in layers}
    if part == "unet":
        other = stability_names(table.values(), config)
        table |= {spelled.replace(".", "_"): layer for spelled, layer in other.items()}
    return table


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
