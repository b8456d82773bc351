"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from fewstep.models.families.layout import Layout
from fewstep.models.families.unet import UNetFamily

VIT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_OPEN_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
_LAYOUT = Layout((1,) * 6, (1,), (1,) * 9)

SD1 = UNetFamily(
    name="SD 1.x",
    text_width=768,
    shapes={
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "text_encoder": VIT_L,
    },
    layout=_LAYOUT,
    tiny="madebyollin/taesd",
)
SD2 = UNetFamily(
    name="SD 2.x",
    text_width=1024,
    shapes={
        "unet": {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        "text_encoder": _OPEN_H | {"projection_dim": 512, "hidden_act": "gelu"},
    },
    layout=_LAYOUT,
    tiny="madebyollin/taesd",
    prediction="v_prediction",
    padding={"tokenizer": "!"},
)
FAMILIES = (SD1, SD2)
