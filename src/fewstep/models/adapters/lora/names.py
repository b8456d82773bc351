"""The names that LoRA files give to a network's layers, and the layers that they mean.

Three spellings are in use for the layer `down_blocks.0.attentions.0.proj_in` of a UNet:

    diffusers  unet.down_blocks.0.attentions.0.proj_in.lora_A.weight   (before PEFT: `.lora.down.weight` and others)
    peft       base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.weight
    kohya      lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight, with an `.alpha` beside it; for SDXL also
               in the names of Stability's own code: lora_unet_input_blocks_4_1_proj_in. ComfyUI writes those with dots:
               diffusion_model.input_blocks.4.1.proj_in

Kohya's underscores cannot be read back alone (`to_q` holds one too), so a name is looked up among those of the network.
LyCORIS spells its kinds of adapters as kohya does, with names of its own for their tensors (`hada_w1_a`, `lokr_w1`, …).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Spelling = Literal["kohya", "diffusers", "peft"]
SPELLINGS: tuple[Spelling, ...] = ("kohya", "diffusers", "peft")

_HOMES = re.compile(
    r"(?P<kohya>(?:lora|oft|lycoris)_(?P<kohya_part>unet|te1|te2|te)_|lycoris_|diffusion_model\.)"
    r"|(?P<peft>base_model\.model\.)"
    r"|(?P<diffusers>(?P<part>unet|text_encoder_2|text_encoder)\.(?:base_model\.model\.)?)"
)
_KOHYA_PARTS = {"te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_OF_TEXT = re.compile(r"(?:text_model[._])?encoder[._]layers[._]\d+[._]|text_model[._]")  # where the home does not say
_TENSOR = re.compile(
    r"(?P<layer>.+?)(?:"
    r"\.lora_(?P<peft>A|B)(?:\.\w+)?\.weight"
    r"|\.lora_(?P<kohya>down|up|mid)\.weight"
    r"|(?:\.lora|\.lora_linear_layer)\.(?P<diffusers>down|up)\.weight"
    r"|(?:\.processor)?\.to_(?P<projection>q|k|v|out)_lora\.(?:(?P<processor>down|up)\.weight|(?P<processor_alpha>alpha))"
    r"|(?:\.lora)?\.(?P<alpha>alpha)"
    r"|\.(?P<vector>lora_magnitude_vector)(?:\.\w+)??(?:\.weight)?"
    r"|\.(?P<lycoris>dora_scale|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|oft_blocks|rescale|diff)"
    r"|\.(?P<rotation>oft_R)(?:\.\w+)?\.weight"
    r")"
)
_WHICH = {"A": "down", "B": "up"}


@dataclass(frozen=True, slots=True)
class LoraKey:
    """A key of a LoRA file, taken apart.

    layer   spelled as in the file where the spelling is kohya's
    tensor  "down", "up", "mid" and "alpha" of a LoRA in every spelling; of other kinds, the name in the file
    """

    spelling: Spelling
    part: str
    layer: str
    tensor: str


def read_key(key: str) -> LoraKey | None:
    """The parts of a key; None for what is no key of an adapter."""
    if (home := _HOMES.match(key)) is None or (found := _TENSOR.fullmatch(key, home.end())) is None:
        return None
    groups = {name: value for name, value in found.groupdict().items() if value}
    layer, projection = groups.pop("layer"), groups.pop("projection", None)
    tensor = next(iter(groups.values()))
    if projection:
        layer += {"out": ".to_out.0"}.get(projection, f".to_{projection}")
    if home["kohya"]:
        spelling: Spelling = "kohya"
        layer = layer.replace(".", "_")
        part = _KOHYA_PARTS.get(home["kohya_part"] or "", "unet")
    else:
        spelling, part = ("peft", "unet") if home["peft"] else ("diffusers", home["part"])
    if not home["diffusers"] and not home["kohya_part"] and _OF_TEXT.match(layer):
        part = "text_encoder"
    return LoraKey(spelling, part, layer, _WHICH.get(tensor, tensor))


def write_key(spelling: Spelling, part: str, layer: str, tensor: str, *, two_encoders: bool = False) -> str:
    """The key of a network's layer in a file of that spelling; kohya numbers the text encoders of SDXL."""
    if spelling == "kohya":
        first = "lora_te1_" if two_encoders else "lora_te_"
        prefix = {"unet": "lora_unet_", "text_encoder": first, "text_encoder_2": "lora_te2_"}[part]
        ending = f"lora_{tensor}.weight" if tensor in ("down", "up") else tensor
        return f"{prefix}{layer.replace('.', '_')}.{ending}"
    home = f"{part}." if spelling == "diffusers" else "base_model.model."
    endings = {"down": "lora_A.weight", "up": "lora_B.weight", "lora_magnitude_vector": "lora_magnitude_vector.weight"}
    return f"{home}{layer}.{endings.get(tensor, tensor)}"


def kohya_names(layers: Iterable[str], others: Mapping[str, str]) -> dict[str, str]:
    """Kohya's spellings, without the prefix, of a network's layers; `others` are other names that its family knows."""
    table = {layer.replace(".", "_"): layer for layer in layers}
    return table | {spelled.replace(".", "_"): layer for spelled, layer in others.items()}
