"""What the stages share: the model in the making as a `Model`, and sheets of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewstep.core.profile import SamplingProfile
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.card import ModelCard
from fewstep.models.families.starter import STARTER
from fewstep.models.model import Model
from fewstep.models.profile import profile_of
from fewstep.pipelines.text2image import text2image
from recipes.emoji import art, autoencoder, drawings

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

PROMPTS = (
    "cat face, noto style",
    "dog face, twemoji style",
    "red heart, fluent style",
    "grinning face, noto style",
    "red apple, twemoji style",
    "automobile, fluent style",
    "sun, noto style",
    "pizza, twemoji style",
    "violin, fluent style",
    "frog, noto style",
    "rocket, twemoji style",
    "guitar, fluent style",
    "house, noto style",
    "tulip, twemoji style",
    "owl, fluent style",
    "snowman, noto style",
)


# Stable Diffusion's schedule with v-prediction.
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
SOURCES = (*drawings.STYLES.values(), art.LABELS)
DATA = tuple(f"{source.name} {source.version}" for source in SOURCES)
LICENCES = tuple(f"{source.licence} ({source.name})" for source in SOURCES)


def teacher_card() -> ModelCard:
    return ModelCard("starter-teacher", data=DATA, licences=LICENCES, shared="..")


def teacher_profile() -> SamplingProfile:
    return profile_of(SCHEDULER, {"kind": "diffusion", "steps": 25, "guidance_scale": 3.0}, embedded=False)


def teacher(folder: Path, unet: Any) -> Model:
    """A teacher in training with the frozen parts from `folder`, ready to sample."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return Model(
        card=teacher_card(),
        profile=teacher_profile(),
        family=STARTER,
        text=STARTER.text({"text_encoder": encoder.eval().to(unet.device)}, {"tokenizer": tokenizer}, {}),
        network=STARTER.network(unet),
        autoencoder=Autoencoder(AutoencoderKL.from_pretrained(folder / "vae").eval().to(unet.device)),
    )


def samples(model: Model, path: Path, *, steps: int, guidance_scale: float) -> None:
    """What the prompts look like now, always from the same noise."""
    images = text2image(model, PROMPTS, steps=steps, seed=0, guidance_scale=guidance_scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(images, columns=8).save(path)


def reconstructions(vae: AutoencoderKL, pixels: Tensor, path: Path) -> None:
    """Pictures above what the autoencoder makes of them."""
    decoded = autoencoder.reconstruct(vae, pixels)
    rows = torch.cat([row for pair in zip(pixels.split(8), decoded.split(8), strict=True) for row in pair])
    contact_sheet([as_image(picture) for picture in rows], columns=8).save(path)


def as_image(pixels: Tensor) -> Image.Image:
    array = pixels.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array))
