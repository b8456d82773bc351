"""Stable Diffusion XL and what was distilled out of it: two text encoders, and a network that reads sizes and crops."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from fewstep.core.profile import SamplingProfile
from fewstep.models.config import Config, whole
from fewstep.models.families.base import Family, Part, Size, Text
from fewstep.models.families.layout import Layout
from fewstep.models.families.sd import VIT_L
from fewstep.models.families.unet import NETWORKS, TOKENIZER, UNetFamily, reads_sizes
from fewstep.models.locating import IS_A_REFINER
from fewstep.models.text.clip import ClipText
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.traits import Traits

SIZES = "time_ids"  # diffusers' name for them
LEAST_LORA_STEPS = 6
_DROPS_TO_ZEROS = "force_zeros_for_empty_prompt"  # in model_index.json
_OPEN_BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_SECOND = Part("second text encoder of SDXL", {"CLIPTextModelWithProjection": "transformers.models.clip.modeling_clip"})


@dataclass(frozen=True, eq=False, kw_only=True)
class XLFamily(UNetFamily):
    """A base of the kind of SDXL (2307.01952)."""

    networks: Mapping[str, Part] = field(default_factory=lambda: {**NETWORKS, "text_encoder_2": _SECOND})
    tokenizers: Mapping[str, Part] = field(
        default_factory=lambda: dict.fromkeys(("tokenizer", "tokenizer_2"), TOKENIZER)
    )

    def recognise(self, config: Config) -> Family | None:
        if config.get("_class_name") != "UNet2DConditionModel" or not reads_sizes(config):
            return None
        return self.of_width(whole(config, "cross_attention_dim", 1280))

    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        return ClipText(encoders, tokenizers, drops_to_zeros=bool(index.get(_DROPS_TO_ZEROS)))

    def traits(self, network: Config, autoencoder: Config) -> Traits | None:
        traits = super().traits(network, autoencoder)
        return traits and replace(traits, reads_pooled=True, sizes=SIZES, least_lora_steps=LEAST_LORA_STEPS)

    def sizes(self, picture: Size, corner: Size, crop: Size) -> tuple[int, ...] | None:
        return (*picture, *corner, *crop)

    def incomplete(self, missing: str, there: Collection[str]) -> str:
        if missing == "text_encoder" and "text_encoder_2" in there:
            return IS_A_REFINER
        if missing == "text_encoder_2":
            return "is of the SDXL kind and has no text_encoder_2/ folder; is it a refiner?"
        return super().incomplete(missing, there)

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        drops = isinstance(text, ClipText) and text.drops_to_zeros
        nothing = {part: [None, None] for part in ("feature_extractor", "image_encoder")}
        return {"_class_name": "StableDiffusionXLPipeline", _DROPS_TO_ZEROS: drops, **nothing}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Distilled(XLFamily):
    """With fewer blocks on the way down and up."""

    pruned: bool = True

    def recognise(self, config: Config) -> Family | None:
        depths = config.get("transformer_layers_per_block")
        return super().recognise(config) if depths == self.shapes["unet"]["transformer_layers_per_block"] else None

    def fits(self, layout: Layout) -> bool:
        return self.layout is not None and (layout.down, layout.up) == (self.layout.down, self.layout.up)


SDXL = XLFamily(
    name="SDXL",
    text_width=2048,
    shapes={
        "unet": {
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
        "text_encoder": VIT_L,
        "text_encoder_2": _OPEN_BIG_G | {"projection_dim": 1280, "hidden_act": "gelu"},
        "vae": {"scaling_factor": 0.13025},
    },
    layout=Layout((2, 2, 10, 10), (10,), (10, 10, 10, 2, 2, 2)),
    tiny="madebyollin/taesdxl",
    padding={"tokenizer_2": "!"},
)
SSD_1B = _Distilled(  # 2401.02677
    name="SSD-1B",
    text_width=2048,
    shapes={
        **SDXL.shapes,
        "unet": {
            **SDXL.shapes["unet"],
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": [1, [2, 2], [4, 4]],
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        },
    },
    layout=Layout((2, 2, 4, 4), (), (4, 4, 10, 2, 1, 1)),
    tiny=SDXL.tiny,
    padding=SDXL.padding,
)
FAMILIES = (SSD_1B, SDXL)
