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
from functools import cache
from typing import Literal

Spelling = Literal["kohya", "diffusers", "peft"]
SPELLINGS: tuple[Spelling, ...] = ("kohya", "diffusers", "peft")

DENOISER = "unet"  # the part that kohya's spelling calls so, whatever network it is
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

    part    the folder of the network; `DENOISER` where the file does not say which network denoises
    layer   spelled as in the file where the spelling is kohya's
    tensor  "down", "up", "mid" and "alpha" of a LoRA in every spelling; of other kinds, the name in the file
    """

    spelling: Spelling
    part: str
    layer: str
    tensor: str


@cache
def _homes() -> re.Pattern[str]:
    """How a key begins: with the folder of a network of any family, or as the other spellings have it."""
    from fewstep.models.families import denoisers, text_encoders  # and torch, for which no command's help waits

    parts = "|".join(sorted((*denoisers(), *text_encoders()), key=len, reverse=True))
    return re.compile(
        r"(?P<kohya>(?:lora|oft|lycoris)_(?P<kohya_part>unet|te\d?)_|lycoris_|diffusion_model\.)"
        r"|(?P<peft>base_model\.model\.)"
        rf"|(?P<diffusers>(?P<part>{parts})\.(?:base_model\.model\.)?)"
    )


def _kohya_part(written: str) -> str:
    """The folder that kohya's "unet", "te" or "te2" means."""
    number = written.removeprefix("te")
    return DENOISER if written == "unet" else "text_encoder" if number in ("", "1") else f"text_encoder_{number}"


def read_key(key: str) -> LoraKey | None:
    """The parts of a key; None for what is no key of an adapter."""
    if (home := _homes().match(key)) is None or (found := _TENSOR.fullmatch(key, home.end())) is None:
        return None
    groups = {name: value for name, value in found.groupdict().items() if value}
    layer, projection = groups.pop("layer"), groups.pop("projection", None)
    tensor = next(iter(groups.values()))
    if projection:
        layer += {"out": ".to_out.0"}.get(projection, f".to_{projection}")
    if home["kohya"]:
        spelling: Spelling = "kohya"
        layer = layer.replace(".", "_")
        part = _kohya_part(home["kohya_part"] or "unet")
    else:
        spelling, part = ("peft", DENOISER) if home["peft"] else ("diffusers", home["part"])
    if not home["diffusers"] and not home["kohya_part"] and _OF_TEXT.match(layer):
        part = "text_encoder"
    return LoraKey(spelling, part, layer, _WHICH.get(tensor, tensor))


def write_key(spelling: Spelling, part: str, layer: str, tensor: str, *, two_encoders: bool = False) -> str:
    """The key of a network's layer in a file of that spelling; kohya numbers the text encoders of SDXL."""
    if spelling == "kohya":
        from fewstep.models.families import denoisers

        number = part.removeprefix("text_encoder").removeprefix("_") or ("1" if two_encoders else "")
        prefix = "lora_unet_" if part in denoisers() else f"lora_te{number}_"
        ending = f"lora_{tensor}.weight" if tensor in ("down", "up") else tensor
        return f"{prefix}{layer.replace('.', '_')}.{ending}"
    home = f"{part}." if spelling == "diffusers" else "base_model.model."
    endings = {"down": "lora_A.weight", "up": "lora_B.weight", "lora_magnitude_vector": "lora_magnitude_vector.weight"}
    return f"{home}{layer}.{endings.get(tensor, tensor)}"


def kohya_names(layers: Iterable[str], others: Mapping[str, str]) -> dict[str, str]:
    """Kohya's spellings, without the prefix, of a network's layers; `others` are other names that its family knows."""
    table = {layer.replace(".", "_"): layer for layer in layers}
    return table | {spelled.replace(".", "_"): layer for spelled, layer in others.items()}
