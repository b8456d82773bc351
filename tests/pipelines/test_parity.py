"""Equal noise gives equal pictures: our pipelines beside those of diffusers, on the same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

import fewstep
from fewstep.models.model import Model
from fewstep.models.profile import profile_of
from miniature import SCHEDULE

PROMPTS = ["a cat face", "sad robot, noto style"]
SEEDS = [11, 12]
GREY_LEVELS = 1  # float32 sums in another order move a value across a rounding edge now and then


@pytest.fixture(scope="module")
def student_of(family: Path) -> Model:
    return fewstep.load(family, device="cpu")


@pytest.fixture(scope="module")
def teacher_of(family: Path) -> Model:
    return fewstep.load(family / "teacher", device="cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    values = np.random.default_rng(0).uniform(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(values).resize((128, 128), Image.Resampling.BICUBIC)


@pytest.fixture
def mode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers draws from a KL encoder's posterior, and moves its generators on; we take the mode, and so it shall."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def parts(model: Model) -> dict[str, object]:
    return {
        "vae": model.autoencoder.module,
        "text_encoder": model.text.encoders["text_encoder"],
        "tokenizer": model.text.tokenizers["tokenizer"],
        "unet": model.network.module,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def lcm_pipeline(kind: type, family: Path, model: Model) -> object:
    """Diffusers' pipeline over LCM's scheduler, with the folder's configs, which are tested too."""
    scheduler = LCMScheduler.from_pretrained(family / "scheduler")
    pipeline = LatentConsistencyModelPipeline.from_pretrained(family, scheduler=scheduler, dtype=torch.float32)
    if kind is not LatentConsistencyModelPipeline:
        pipeline = kind(scheduler=scheduler, **parts(model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def assert_same(ours: list[Image.Image], theirs: list[Image.Image]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        difference = np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int))
        assert difference.max() <= GREY_LEVELS, f"{difference.max()} grey levels apart"
        assert np.asarray(a).std() > 1, "a picture of one colour proves nothing"


def ours_with_seeds(model: Model, **options: object) -> list[Image.Image]:
    return [
        fewstep.text2image(model, prompt, seed=seed, **options)  # type: ignore[arg-type]
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("guidance_scale", [4.0, 6.5])
def test_text_to_image(family: Path, student_of: Model, steps: int, guidance_scale: float) -> None:
    pipeline = lcm_pipeline(LatentConsistencyModelPipeline, family, student_of)
    theirs = pipeline(  # type: ignore[operator]
        PROMPTS, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generators()
    )
    ours = ours_with_seeds(student_of, steps=steps, guidance_scale=guidance_scale, sampler="lcm")
    assert_same(ours, theirs.images)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_folder_as_diffusers_opens_it(family: Path, student_of: Model, steps: int) -> None:
    """The pipeline and the scheduler that the folder names walk as its card says."""
    pipeline = DiffusionPipeline.from_pretrained(family, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(PROMPTS, num_inference_steps=steps, guidance_scale=3.0, generator=generators())
    assert_same(ours_with_seeds(student_of, steps=steps, guidance_scale=3.0), theirs.images)


def test_times_of_ones_own(family: Path, student_of: Model) -> None:
    pipeline = lcm_pipeline(LatentConsistencyModelPipeline, family, student_of)
    times = [979, 599, 119]
    theirs = pipeline(PROMPTS, timesteps=times, guidance_scale=4.0, generator=generators())  # type: ignore[operator]
    assert_same(ours_with_seeds(student_of, timesteps=times, guidance_scale=4.0, sampler="lcm"), theirs.images)


@pytest.mark.usefixtures("mode_alone")
@pytest.mark.parametrize(("strength", "steps"), [(0.3, 4), (0.5, 1), (0.5, 4), (0.8, 2), (1.0, 4)])
def test_image_to_image(family: Path, student_of: Model, picture: Image.Image, strength: float, steps: int) -> None:
    pipeline = lcm_pipeline(LatentConsistencyModelImg2ImgPipeline, family, student_of)
    options = {"strength": strength, "guidance_scale": 5.0}
    theirs = pipeline(  # type: ignore[operator]
        PROMPTS, [picture] * 2, num_inference_steps=steps, generator=generators(), **options
    )
    ours = [
        fewstep.image2image(student_of, prompt, picture, steps=steps, seed=seed, sampler="lcm", **options)  # type: ignore[call-overload]
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]
    assert_same(ours, theirs.images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "steps", "negative_prompt"),
    [("ddim", 4, ""), ("ddim", 10, "red"), ("dpm++", 4, "red"), ("dpm++", 20, "")],
)
def test_the_teacher(family: Path, teacher_of: Model, sampler: str, steps: int, negative_prompt: str) -> None:
    scheduler = DDIMScheduler.from_pretrained(family / "teacher" / "scheduler")
    if sampler == "dpm++":
        scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config)
    pipeline = StableDiffusionPipeline(scheduler=scheduler, **parts(teacher_of))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS,
        negative_prompt=[negative_prompt] * 2,
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=generators(),
    )
    ours = ours_with_seeds(
        teacher_of, sampler=sampler, steps=steps, guidance_scale=3.0, negative_prompt=negative_prompt
    )
    assert_same(ours, theirs.images)


def test_the_teacher_with_the_times_of_stable_diffusion(teacher: Model) -> None:
    """Leading times with an offset, ending on the first row of the schedule instead of on clean data."""
    scheduler = DDIMScheduler(**SCHEDULE, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False)
    model = dataclasses.replace(teacher, profile=profile_of(scheduler.config, embedded=False))
    pipeline = StableDiffusionPipeline(scheduler=scheduler, **parts(model))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(PROMPTS, num_inference_steps=10, guidance_scale=3.0, generator=generators())
    assert_same(ours_with_seeds(model, sampler="ddim", steps=10, guidance_scale=3.0), theirs.images)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_other_predictions(student: Model, prediction_type: str) -> None:
    scheduler = LCMScheduler(**SCHEDULE, prediction_type=prediction_type)
    model = dataclasses.replace(
        student, profile=profile_of({**scheduler.config, "_class_name": "LCMScheduler"}, embedded=True)
    )
    pipeline = LatentConsistencyModelPipeline(scheduler=scheduler, **parts(model))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(PROMPTS, num_inference_steps=4, guidance_scale=5.0, generator=generators())
    assert_same(ours_with_seeds(model, steps=4, guidance_scale=5.0), theirs.images)


@pytest.mark.usefixtures("mode_alone")
@pytest.mark.parametrize("strength", [0.4, 0.75])
def test_the_teacher_over_a_picture(family: Path, teacher_of: Model, picture: Image.Image, strength: float) -> None:
    scheduler = DDIMScheduler.from_pretrained(family / "teacher" / "scheduler")
    pipeline = StableDiffusionImg2ImgPipeline(scheduler=scheduler, **parts(teacher_of))
    pipeline.set_progress_bar_config(disable=True)
    options = {"strength": strength, "guidance_scale": 3.0}
    theirs = pipeline(PROMPTS, [picture] * 2, num_inference_steps=10, generator=generators(), **options)
    ours = [
        fewstep.image2image(teacher_of, prompt, picture, sampler="ddim", steps=10, seed=seed, **options)  # type: ignore[call-overload]
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]
    assert_same(ours, theirs.images)
