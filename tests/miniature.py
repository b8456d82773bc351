"""A complete random model of a few thousand weights, in the folder layout of the shipped starter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from fewstep.models.card import CardFacts, ModelCard, write_card
from fewstep.models.profile import profile_of

HIDDEN = 32
HIDDEN_2 = 48  # of SDXL's second text encoder
TOKENS = 24
SDXL_POOLED = 16
WORDS = ("a", "blue", "cat", "dog", "face", "fox", "noto", "red", "robot", "sad", "style")
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def write_miniature(folder: Path, prediction_type: str = "v_prediction", autoencoder: str = "tiny") -> Path:
    """Write a student (LCM) into `folder` and its teacher into `folder`/teacher; the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _unet(time_cond_proj_dim=256).save_pretrained(folder / "unet")
        _unet(time_cond_proj_dim=None).save_pretrained(folder / "teacher" / "unet")
        _autoencoder(autoencoder).save_pretrained(folder / "vae")
        _text_encoder().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    settings = {**SCHEDULE, "prediction_type": prediction_type}
    LCMScheduler(**settings).save_pretrained(folder / "scheduler")
    DDIMScheduler(**settings, timestep_spacing="trailing", steps_offset=1).save_pretrained(
        folder / "teacher" / "scheduler"
    )
    _write_index(folder, "LatentConsistencyModelPipeline", "LCMScheduler")
    _write_index(folder / "teacher", "StableDiffusionPipeline", "DDIMScheduler")
    student: CardFacts = {"kind": "lcm", "steps": 4, "guidance_scale": 8.0, "w_range": (2.0, 14.0)}
    _write_card(folder, ModelCard("miniature"), student)
    _write_card(
        folder / "teacher",
        ModelCard("miniature-teacher", shared=".."),
        {"kind": "diffusion", "steps": 25, "guidance_scale": 4.0},
    )
    return folder


def _write_card(folder: Path, card: ModelCard, facts: CardFacts) -> None:
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    write_card(folder, card, profile_of(scheduler, facts, embedded=facts["kind"] == "lcm"))


def write_miniature_sd2(folder: Path) -> Path:
    """Stable Diffusion 2.1's (at 768 pixels): linear projections, heads by level, v prediction."""
    return write_miniature_sd1(
        folder, prediction_type="v_prediction", attention_head_dim=(2, 4, 4), use_linear_projection=True
    )


def write_miniature_sd1(
    folder: Path,
    time_cond_proj_dim: int | None = None,
    prediction_type: str = "epsilon",
    layers_per_block: int = 2,
    **unet: Any,
) -> Path:
    """Stable Diffusion 1.x's parts and layers, a few channels wide."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64, 64),
            layers_per_block=layers_per_block,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=HIDDEN,
            time_cond_proj_dim=time_cond_proj_dim,
            **{"attention_head_dim": 4, **unet},
        ).save_pretrained(folder / "unet")
        _autoencoder("kl", latents=4).save_pretrained(folder / "vae")
        _text_encoder().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    kind = DDIMScheduler if time_cond_proj_dim is None else LCMScheduler
    settings = {**SCHEDULE, "prediction_type": prediction_type}
    kind(**settings, steps_offset=1, set_alpha_to_one=False).save_pretrained(folder / "scheduler")
    _write_index(folder, "StableDiffusionPipeline", kind.__name__)
    return folder


def write_miniature_sdxl(folder: Path, time_cond_proj_dim: int | None = None, **unet: Any) -> Path:
    """SDXL's parts, a few channels wide: two text encoders, sizes and crops, epsilon prediction."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        sdxl_unet(time_cond_proj_dim, width=HIDDEN + HIDDEN_2, **unet).save_pretrained(folder / "unet")
        _autoencoder("kl", latents=4).save_pretrained(folder / "vae")
        _text_encoder().save_pretrained(folder / "text_encoder")
        second = _text_config(hidden_size=HIDDEN_2, projection_dim=SDXL_POOLED)
        CLIPTextModelWithProjection(second).save_pretrained(folder / "text_encoder_2")
    write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2")
    kind = DDIMScheduler if time_cond_proj_dim is None else LCMScheduler
    kind(**SCHEDULE, steps_offset=1).save_pretrained(folder / "scheduler")
    _write_index(folder, "StableDiffusionXLPipeline", kind.__name__, sdxl=True)
    return folder


def sdxl_unet(
    time_cond_proj_dim: int | None = None,
    width: int = 16,
    layers_per_block: int = 2,
    transformers: tuple[int, int, int] = (1, 2, 3),
) -> UNet2DConditionModel:
    """SDXL's blocks and layers; `width` of the text states, `transformers` on each level."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 64),
        layers_per_block=layers_per_block,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=transformers,
        attention_head_dim=8,
        cross_attention_dim=width,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + SDXL_POOLED,
        time_cond_proj_dim=time_cond_proj_dim,
    )


def _unet(time_cond_proj_dim: int | None) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        encoder_hid_dim=None,
        time_cond_proj_dim=time_cond_proj_dim,
    )


def _autoencoder(kind: str, latents: int = 16) -> AutoencoderTiny | AutoencoderKL:
    if kind == "tiny":
        return _lively(
            AutoencoderTiny(
                encoder_block_out_channels=(8,) * 5,
                decoder_block_out_channels=(8,) * 5,
                num_encoder_blocks=(1, 1, 1, 1, 1),
                num_decoder_blocks=(1, 1, 1, 1, 1),
                latent_channels=16,
                scaling_factor=0.7,
            )
        )
    levels = 5 if latents == 16 else 4  # 16 pixels a latent, as the starter has it, or 8, as Stable Diffusion
    return AutoencoderKL(
        block_out_channels=(*(8,) * (levels - 1), 16),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=latents,
        sample_size=128,
        scaling_factor=0.7,
    )


@torch.no_grad()
def _lively(autoencoder: AutoencoderTiny) -> AutoencoderTiny:
    """Random weights of such a size that latents and pictures vary; left as they are, every picture is black."""
    for half, gain in ((autoencoder.encoder, 2.45), (autoencoder.decoder, 1.9)):
        for module in half.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight *= gain
    autoencoder.decoder.layers[-1].bias += 0.5  # the decoder maps [0, 1] to [-1, 1] at its end
    return autoencoder


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(_text_config())


def _text_config(**more: int) -> CLIPTextConfig:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": 600, "max_position_embeddings": TOKENS}
    ends = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    return CLIPTextConfig(**{**sizes, **tokens, **ends, **more})


def write_tokenizer(folder: Path) -> None:
    """CLIP's byte-level tokenizer with one token for each of `WORDS`; other words fall into their letters."""
    alphabet = _byte_alphabet()
    vocab = {symbol: index for index, symbol in enumerate([*alphabet, *(f"{s}</w>" for s in alphabet)])}
    vocab |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        while len(symbols) > 1:
            pair = (symbols[0], symbols[1])
            if pair not in merges:
                merges.append(pair)
                vocab.setdefault("".join(pair), len(vocab))
            symbols = ["".join(pair), *symbols[2:]]
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS).save_pretrained(folder)


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _write_index(folder: Path, pipeline: str, scheduler: str, sdxl: bool = False) -> None:
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
    if (folder / "vae" / "config.json").is_file():
        index["vae"] = ["diffusers", json.loads((folder / "vae" / "config.json").read_text())["_class_name"]]
    if sdxl:
        index |= {
            "force_zeros_for_empty_prompt": True,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
