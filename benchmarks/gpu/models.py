"""Stable Diffusion's families at true size with random weights, made on the device in seconds; nothing is fetched."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fewstep.core.profile import Kind
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.card import CardFacts, ModelCard
from fewstep.models.config import Config
from fewstep.models.families.sd import SD1
from fewstep.models.families.sdxl import SDXL
from fewstep.models.families.unet import TOKENIZER, UNetFamily
from fewstep.models.locating import STARTER
from fewstep.models.model import Model
from fewstep.models.parts import read_tokenizer
from fewstep.models.profile import profile_of

TOKENS = 77
W_DIM = 256
SCHEDULER: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# For dry runs: the same blocks and layers, a few channels wide.
NARROW: Config = {
    "block_out_channels": (32, 64, 64, 64),
    "attention_head_dim": 4,
    "sample_size": 8,
    "cross_attention_dim": 32,
}
NARROW_TEXT: Config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
NARROW_VAE: Config = {"block_out_channels": (8, 8, 8, 16), "norm_num_groups": 4, "layers_per_block": 1}
NARROW_XL: Config = {
    "block_out_channels": (32, 64, 64),
    "attention_head_dim": 8,
    "sample_size": 8,
    "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 64,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}


def sd1(tiny: bool, *, reads_w: bool) -> UNetFamily:
    """SD 1.5; `reads_w` as the published consistency models do."""
    told: Config = {"time_cond_proj_dim": W_DIM if reads_w else None}
    if not tiny:
        return dataclasses.replace(SD1, shapes={**SD1.shapes, "unet": {**SD1.shapes["unet"], **told}})
    unet = {**SD1.shapes["unet"], **NARROW, **told}
    return dataclasses.replace(
        SD1, name="SD 1.x, narrow", shapes={"unet": unet, "text_encoder": NARROW_TEXT, "vae": NARROW_VAE}
    )


def sdxl(tiny: bool) -> UNetFamily:
    """SDXL, with the autoencoder's weights taken for such as bear float16 (as in sdxl-vae-fp16-fix)."""
    if not tiny:
        return dataclasses.replace(SDXL, shapes={**SDXL.shapes, "vae": {**SDXL.shapes["vae"], "force_upcast": False}})
    narrow: dict[str, Config] = {
        "unet": {**SDXL.shapes["unet"], **NARROW_XL},
        "text_encoder": NARROW_TEXT,
        "text_encoder_2": {**NARROW_TEXT, "projection_dim": 32},
        "vae": {**NARROW_VAE, "force_upcast": False},
    }
    return dataclasses.replace(SDXL, name="SDXL, narrow", shapes=narrow)


def random_bundle(family: UNetFamily, kind: Kind, device: str, dtype: torch.dtype) -> Model:
    """A model of these shapes that paints noise: no time depends on what the weights are."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {part: randomised(family.blank(part), device, dtype) for part in family.networks}
    network = family.network(parts["unet"])
    facts: CardFacts = {"kind": kind, "steps": 4, "guidance_scale": 1.0}
    if network.embeds_w:
        facts |= {"guidance_scale": 8.0, "w_range": (2.0, 14.0)}
    encoders, tokenizers = (
        {part: parts[part] for part in family.encoders},
        {part: tokenizer() for part in family.tokenizers},
    )
    return Model(
        card=ModelCard("random"),
        profile=profile_of(SCHEDULER, facts, embedded=network.embeds_w),
        family=family,
        text=family.text(encoders, tokenizers, {"force_zeros_for_empty_prompt": True}),
        network=network,
        autoencoder=Autoencoder(parts["vae"]),
    )


def tiny_autoencoder(device: str, dtype: torch.dtype) -> Autoencoder:
    """TAESD's shape."""
    from diffusers import AutoencoderTiny

    with torch.device("meta"):
        network = AutoencoderTiny()
    return Autoencoder(randomised(network, device, dtype))


def tokenizer() -> Any:
    """The starter's, cut and padded as Stable Diffusion's is."""
    ours = read_tokenizer(TOKENIZER, STARTER / "tokenizer")
    ours.model_max_length = TOKENS
    return ours


@torch.no_grad()
def randomised(network: nn.Module, device: str, dtype: torch.dtype) -> Any:
    """A network from the meta device, on its own with the weights that training would begin with."""
    network = network.to(dtype).to_empty(device=device)
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    for buffer in network.buffers():
        if not buffer.is_floating_point():
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))  # CLIP's positions
    return network.eval().requires_grad_(False)


def rival_of(model: Model, kind: Callable[..., Any], **more: Any) -> Any:
    """Diffusers' pipeline of the class `kind` on the same weights, at its best documented eager settings."""
    from diffusers import LCMScheduler

    parts: dict[str, Any] = {**model.text.encoders, **model.text.tokenizers, "scheduler": LCMScheduler(**SCHEDULER)}
    parts |= {"unet": copy.deepcopy(model.network.module), "vae": copy.deepcopy(model.autoencoder.module)}
    pipeline = kind(**parts, **more)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    pipeline.unet.fuse_qkv_projections()
    if hasattr(pipeline.vae, "fuse_qkv_projections"):
        pipeline.vae.fuse_qkv_projections()
    return pipeline


def prompts(count: int) -> list[str]:
    return [f"a sleepy fox, number {i % 10}" for i in range(count)]


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """On the CPU, as ours are: the same noise on every machine."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
