"""What we are measured against: diffusers' own pipeline, over the same weights and with the same settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

import fewstep
from fewstep.models.folder import locate
from fewstep.models.locating import BUILT_IN
from fewstep.models.saving import export


@contextmanager
def as_diffusers_opens(model: str) -> Iterator[Path]:
    """The model's folder; of one that comes along, a folder that `fewstep export` writes for the while."""
    if model not in BUILT_IN:
        yield locate(model)
        return
    with TemporaryDirectory() as home:
        export(model, folder := Path(home) / model)
        yield folder


def painter(model: str) -> Callable[[str, int, int], Image.Image]:
    """`paint(prompt, steps, seed)` by the pipeline and scheduler that the folder's model_index.json names.

    Its guidance scale and, for TCD's scheduler, `eta` are those of the model's profile, as fewstep takes them.
    """
    from diffusers import DiffusionPipeline, TCDScheduler

    with as_diffusers_opens(model) as folder:
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    profile = fewstep.load(model, device="cpu").profile
    eta = {"eta": profile.gamma} if isinstance(pipeline.scheduler, TCDScheduler) else {}

    def paint(prompt: str, steps: int, seed: int) -> Image.Image:
        image: Image.Image = pipeline(
            prompt,
            num_inference_steps=steps,
            guidance_scale=profile.guidance.scale,
            generator=torch.Generator().manual_seed(seed),
            **eta,
        ).images[0]
        return image

    return paint
