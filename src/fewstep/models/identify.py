"""What a file or a folder is, from all that it states; every door asks here, and refuses a thing for what it is.

What wins over what is in `stated`: fewstep's own record, the config beside it, metadata, marker tensors, names and
shapes of tensors, and last what it is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fewstep.errors import InvalidModel
from fewstep.models.adapters.lora.names import read_key
from fewstep.models.config import Config, class_name
from fewstep.models.families.layout import Layout
from fewstep.models.families.unet_file import UNET
from fewstep.models.families.unets import named, named_by_config, with_layers
from fewstep.models.locating import find_weights, read_json
from fewstep.models.tensor_file import Header
from fewstep.models.transformer_kinds import SD3, kind_called, kind_named, kind_of

Thing = Literal[
    "model",
    "checkpoint",
    "unet",
    "controlnet",
    "control-lora",
    "t2i-adapter",
    "ip-adapter",
    "autoencoder",
    "lora",
    "embedding",
    "upscaler",
    "text encoder",
    "transformer",
    "tokenizer",
    "scheduler",
    "unknown",
]

# What people call it, and what to do with it.
THINGS: Mapping[Thing, tuple[str, str]] = {
    "model": ("a model's folder", "give it with --model"),
    "checkpoint": ("a whole checkpoint in one file", "give it with --model"),
    "unet": ("a U-Net alone", "give it with --unet, over the model that its other parts come from (--model)"),
    "controlnet": ("a ControlNet", "give it with --control and a picture: --control NET=PICTURE"),
    "control-lora": ("a Control-LoRA", "fewstep has no use for it; the ControlNet of its kind works"),
    "t2i-adapter": (
        "a T2I-Adapter",
        "give it with --control and a picture: --control FOLDER=PICTURE (its folder, as diffusers writes it)",
    ),
    "ip-adapter": ("an IP-Adapter", "give it with --control and a picture: --control NET=PICTURE"),
    "autoencoder": ("an autoencoder", "give it with --vae"),
    "lora": ("a LoRA", "it looks like a LoRA: give it with --lora"),
    "embedding": ("an embedding (textual inversion)", "give it with --embedding, and its word in the prompt"),
    "upscaler": ("an upscaler", "fewstep has no use for it; --upscale 2 paints larger without one"),
    "text encoder": ("a text encoder", "it belongs into a model's folder, as text_encoder/"),
    "transformer": (
        "a diffusion transformer",
        "fewstep samples those of PixArt and Stable Diffusion 3, from a model's folder",
    ),
    "tokenizer": ("a tokenizer", "it belongs into a model's folder, as tokenizer/"),
    "scheduler": ("a scheduler's config", "it belongs into a model's folder, as scheduler/"),
    "unknown": ("nothing that fewstep knows", "fewstep inspect FILE says what it knows"),
}

_CLASSES: Mapping[str, Thing] = {
    "UNet2DConditionModel": "unet",
    "ControlNetModel": "controlnet",
    "T2IAdapter": "t2i-adapter",
    "MultiAdapter": "t2i-adapter",
    "AutoencoderKL": "autoencoder",
    "AutoencoderTiny": "autoencoder",
    "CLIPTextModel": "text encoder",
    "CLIPTextModelWithProjection": "text encoder",
    "T5EncoderModel": "text encoder",
}
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_UPSCALERS = (
    "model.0.weight",
    "model.1.sub.",
    "conv_first.",
    "body.0.rdb1.",
    "upconv1.",
    "layers.0.residual_group.",
)
_TRANSFORMER = re.compile(r"(^|\.)(double_blocks|single_blocks|joint_blocks|transformer_blocks\.0\.attn)\.")
_LATENTS = ("decoder.conv_in.weight", "decoder.layers.0.weight", "post_quant_conv.weight")
_ATTENDS = ("attn2.to_k.weight", "attn2.to_v.weight")
_TEXT = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")


@dataclass(frozen=True)
class Identity:
    """family        the base that it was made for, in words; None where that means nothing
    shown         some of the names in it, where it is unknown
    whole_names   its tensors are called as in a whole checkpoint
    """

    path: Path
    thing: Thing
    family: str | None = None
    shown: tuple[str, ...] = ()
    whole_names: bool = False

    @property
    def words(self) -> str:
        """What it is: "a ControlNet for SD 1.x"."""
        what = THINGS[self.thing][0]
        return what if self.family is None else f"{what} for {self.family}"

    @property
    def advice(self) -> str:
        kind = kind_named(self.family) if self.thing == "transformer" and self.family is not None else None
        return THINGS[self.thing][1] if kind is None else kind.advice

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """What it is read from; raises `InvalidModel` for a folder without weights."""
        return find_weights(self.path) if self.path.is_dir() else (self.path,)


def refusal(path: Path, wanted: str, found: Identity | None = None) -> InvalidModel:
    """The error for a thing that is given where another is `wanted` ("LoRA"): what it is, and what to do with it."""
    found = identify(path) if found is None else found
    if found.thing != "unknown":
        return InvalidModel(f"{path} is no {wanted}: it is {found.words}; {found.advice}")
    shown = f" (it holds {', '.join(map(repr, found.shown))})" if found.shown else ""
    return InvalidModel(f"{path} is no {wanted} that fewstep knows{shown}")


def check_model_folder(path: Path) -> None:
    """Raises `InvalidModel` for a folder of something else than a model, by its name."""
    if path.is_dir() and (found := identify(path)).thing not in ("model", "unknown"):
        raise refusal(path, "model's folder", found)


def identify(path: Path) -> Identity:
    """Raises `InvalidModel` for a pickle, and for a file that is no safetensors."""
    if path.is_dir():
        return _identify_folder(path)
    header = Header.read(path)
    thing = _thing(header)
    shown = tuple(list(header.shapes)[:3]) if thing == "unknown" else ()
    return Identity(path, thing, _family(thing, header), shown, whole_names=header.has(UNET))


def _identify_folder(path: Path) -> Identity:
    if (path / "model_index.json").is_file():
        return Identity(path, "model")
    if any((path / name).is_file() for name in _ADAPTERS):
        return Identity(path, "lora")
    if (path / "config.json").is_file():
        config = read_json(path / "config.json")
        name = class_name(config)
        thing = _CLASSES.get(name, "transformer" if "Transformer2D" in name else "unknown")
        return Identity(path, thing, _family_by_config(thing, config), (name,) if thing == "unknown" else ())
    if (path / "scheduler_config.json").is_file():
        return Identity(path, "scheduler")
    if any((path / name).is_file() for name in ("tokenizer_config.json", "vocab.json")):
        return Identity(path, "tokenizer")
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        inside = identify(files[0])
        return Identity(path, inside.thing, inside.family, inside.shown)
    return Identity(path, "unknown")


def _thing(header: Header) -> Thing:
    """By the names of its tensors; the order matters, for the larger things hold the smaller ones."""
    keys = header.shapes
    lora = _is_lora(header)
    if not lora and (kind := kind_of(keys)) is not None:
        return "checkpoint" if kind.name == SD3 and header.has(UNET) and header.has(*_TEXT) else "transformer"
    if header.has(UNET) and not lora:
        return "checkpoint" if header.has(*_TEXT) else "unet"
    if "lora_controlnet" in keys:
        return "control-lora"
    if header.has("image_proj.", "ip_adapter."):
        return "ip-adapter"
    if header.has("control_model.", "controlnet_cond_embedding.", "input_hint_block.", "controlnet_down_blocks."):
        return "controlnet"
    if header.has("adapter.body.", "adapter.conv_in", "body.0.in_conv", "body.0.block1", "body.0.resnets"):
        return "t2i-adapter"
    if lora:
        return "lora"
    if _is_embedding(header):
        return "embedding"
    if header.has(*_UPSCALERS):
        return "upscaler"
    if any(_TRANSFORMER.search(key) for key in keys):
        return "transformer"
    if header.has("down_blocks.", "input_blocks.") and any(key.endswith(_ATTENDS) for key in keys):
        return "unet"
    if header.has("first_stage_model.", "decoder.conv_in.", "decoder.layers."):
        return "autoencoder"
    if header.has("text_model.", "transformer.text_model.", "transformer.resblocks.", "encoder.block.0.layer.", *_TEXT):
        return "text encoder"
    return "unknown"


def _is_lora(header: Header) -> bool:
    return any(read_key(key) for key in header.shapes) or (
        header.has("transformer.") and any(".lora_" in key for key in header.shapes)
    )


def _is_embedding(header: Header) -> bool:
    """A few vectors and nothing else; an entry with a name of its own, or one that web UIs give."""
    shapes = header.shapes
    if set(shapes) & {"emb_params", "clip_l", "clip_g"} or header.has("string_to_param"):
        return True
    vectors = [shape for shape in shapes.values() if len(shape) in (1, 2)]
    return 0 < len(shapes) == len(vectors) <= 4 and all(
        "." not in key and 16 <= shape[-1] <= 4096 and (len(shape) == 1 or shape[0] <= 128)
        for key, shape in shapes.items()
    )


def _family(thing: Thing, header: Header) -> str | None:
    if thing in ("checkpoint", "transformer") and (kind := kind_of(header.shapes)) is not None:
        return kind.name
    if thing in ("checkpoint", "unet"):
        return with_layers(header.width(*_ATTENDS), Layout.of(header.shapes))[1]
    if thing == "controlnet":
        return named(header.width(*_ATTENDS))
    if thing == "ip-adapter":
        return named(header.width("to_k_ip.weight"))
    if thing == "autoencoder":
        return _with_latents(header.width(*_LATENTS))
    if thing == "embedding":
        widths = {shape[-1] for shape in header.shapes.values() if shape}
        return "SDXL" if len(widths) > 1 else named(next(iter(widths), None))
    return None


def _family_by_config(thing: Thing, config: Config) -> str | None:
    if thing == "autoencoder":
        channels = config.get("latent_channels")
        return _with_latents(channels if isinstance(channels, int) else None)
    if thing == "t2i-adapter":
        return "SDXL" if str(config.get("adapter_type")).endswith("_xl") else "SD 1.x or 2.x"
    if thing == "transformer":
        kind = kind_called(class_name(config))
        return None if kind is None else kind.name
    return named_by_config(config) if thing in ("unet", "controlnet") else None


def _with_latents(channels: int | None) -> str | None:
    return None if channels is None else f"any base with latents of {channels} channels"
