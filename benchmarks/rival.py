"""What we are measured against: diffusers' own pipeline, over the same weights and with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

import fewstep
from fewstep.models.locating import STARTER, locate


def starter_folder() -> Path:
    """The shipped starter, as diffusers opens it."""
    return STARTER


def painter(model: str) -> Callable[[str, int, int], Image.Image]:
    """`paint(prompt, steps, seed)` by the pipeline and scheduler that the folder's model_index.json names.

    Its guidance scale and, for TCD's scheduler, `eta` are those of the model's card, as fewstep takes them.
    """
    from diffusers import DiffusionPipeline, TCDScheduler

    folder = starter_folder() if model == "starter" else locate(model)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    card = fewstep.load(model, device="cpu").card
    eta = {"eta": card.gamma} if isinstance(pipeline.scheduler, TCDScheduler) else {}

    def paint(prompt: str, steps: int, seed: int) -> Image.Image:
        image: Image.Image = pipeline(
            prompt,
            num_inference_steps=steps,
            guidance_scale=card.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            **eta,
        ).images[0]
        return image

    return paint
