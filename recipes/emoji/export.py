"""The trained parts as a model folder: what fewstep loads as "starter" and diffusers as two pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewstep.models.fast_decoder import FastDecoder
from fewstep.models.locating import FAST_DECODER
from recipes.emoji import art, sheets

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

COMPONENTS = {
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
}


def write_starter(
    source: Path,
    target: Path,
    teacher: UNet2DConditionModel,
    student: UNet2DConditionModel,
    w_range: tuple[float, float],
) -> None:
    """Everything in fp16 safetensors; the teacher's folder has its U-Net and schedule, and shares the rest."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    AutoencoderKL.from_pretrained(source / "vae").half().save_pretrained(target / "vae")
    CLIPTextModel.from_pretrained(source / "text_encoder").half().save_pretrained(target / "text_encoder")
    shutil.copytree(source / "tokenizer", target / "tokenizer")
    (target / FAST_DECODER).mkdir()
    FastDecoder.load(source / FAST_DECODER).save(target / FAST_DECODER)
    held_out = _held_out(source)
    _write_model(target, student, "LatentConsistencyModelPipeline", "student", w_range, held_out)
    _write_model(target / "teacher", teacher, "StableDiffusionPipeline", "teacher", w_range, held_out)


def _held_out(source: Path) -> str:
    pairs = sorted(f"{p.label} ({p.style})" for p in art.load(source)[0] if p.held_out)
    return f"## Held out\n\nThese {len(pairs)} pairs were never trained on by any part: {'; '.join(pairs)}.\n"


def _write_model(
    folder: Path,
    unet: UNet2DConditionModel,
    pipeline: str,
    stage: str,
    w_range: tuple[float, float],
    held_out: str,
) -> None:
    unet.to(torch.float16).save_pretrained(folder / "unet")
    card = sheets.card(stage, w_range)
    config = sheets.scheduler_config(card.kind)
    _write_json(folder / "scheduler" / "scheduler_config.json", config)
    index = {"_class_name": pipeline, "requires_safety_checker": False, **COMPONENTS}
    _write_json(folder / "model_index.json", index | {"scheduler": ["diffusers", config["_class_name"]]})
    card.write(folder)
    (folder / "README.md").write_text(card.to_markdown() + "\n" + held_out)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
