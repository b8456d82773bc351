"""The trained parts as a model folder: what fewstep loads as "starter" and diffusers as two pipelines."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewstep.core.profile import SamplingProfile
from fewstep.models.card import ModelCard, read_card, write_card
from fewstep.models.families.starter import STARTER
from fewstep.models.fast_decoder import FastDecoder
from fewstep.models.locating import FAST_DECODER, read_json
from fewstep.models.profile import profile_of
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


def write_teacher(source: Path, target: Path, unet: UNet2DConditionModel) -> None:
    """A new model folder, all in fp16: the parts that the networks share, and in `teacher` its U-Net and schedule."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    AutoencoderKL.from_pretrained(source / "vae").half().save_pretrained(target / "vae")
    CLIPTextModel.from_pretrained(source / "text_encoder").half().save_pretrained(target / "text_encoder")
    shutil.copytree(source / "tokenizer", target / "tokenizer")
    (target / FAST_DECODER).mkdir()
    FastDecoder.load(source / FAST_DECODER).save(target / FAST_DECODER)
    teacher = target / "teacher"
    unet.to(torch.float16).save_pretrained(teacher / "unet")
    _write_json(teacher / "scheduler" / "scheduler_config.json", sheets.SCHEDULER)
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **COMPONENTS}
    _write_json(teacher / "model_index.json", index | {"scheduler": ["diffusers", sheets.SCHEDULER["_class_name"]]})
    _write_card(teacher, sheets.teacher_card(), sheets.teacher_profile(), source)


def write_student(source: Path, target: Path, distilled: Path) -> None:
    """What is the distilled model's own, into the folder that `write_teacher` made."""
    for part in ("unet", "scheduler"):
        shutil.copytree(distilled / part, target / part, dirs_exist_ok=True)
    shutil.copyfile(distilled / "model_index.json", target / "model_index.json")
    card, facts = read_card(distilled)
    assert card is not None
    card = dataclasses.replace(card, data=sheets.DATA, licences=sheets.LICENCES, measured={})
    embedded = STARTER.embeds_w(read_json(distilled / "unet" / "config.json"))
    scheduler = read_json(distilled / "scheduler" / "scheduler_config.json")
    _write_card(target, card, profile_of(scheduler, facts, embedded=embedded), source)


def _write_card(folder: Path, card: ModelCard, profile: SamplingProfile, source: Path) -> None:
    pairs = sorted(f"{p.label} ({p.style})" for p in art.load(source)[0] if p.held_out)
    held_out = f"## Held out\n\nThese {len(pairs)} pairs were never trained on by any part: {'; '.join(pairs)}.\n"
    write_card(folder, card, profile)
    (folder / "README.md").write_text(card.to_markdown(profile) + "\n" + held_out, encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
