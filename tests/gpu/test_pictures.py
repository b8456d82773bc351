"""The pictures that CUDA paints beside those of the CPU: one seed is one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewstep
from conftest import NEEDS_STARTER
from fewstep.models.loading import FAST
from fewstep.models.model import Model

pytestmark = [pytest.mark.gpu, NEEDS_STARTER]

PROMPTS = ["a cat face", "sad robot", "a blue heart"]
GREY_LEVELS = 2  # float32 sums in another order, carried through four steps
NEAR = {"float16": 1.0, "bfloat16": 6.0}  # grey levels of the mean difference: the rounding of 11 and of 8 bits


@pytest.fixture(scope="module")
def on_cpu() -> Model:
    return fewstep.load("starter", device="cpu", dtype="float32")


def bytes_of(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=int) for image in images])


def painted(model: Model, **options: Any) -> np.ndarray:
    pictures = bytes_of(fewstep.text2image(model, PROMPTS, **{"seed": 3, "steps": 4, **options}))
    assert pictures.std() > 10, "pictures of one colour prove nothing"
    return pictures


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("vae", [None, FAST])
def test_float32_is_the_picture_of_the_cpu(steps: int, vae: str | None) -> None:
    ours, reference = (
        painted(fewstep.load("starter", device=device, dtype="float32", vae=vae), steps=steps)
        for device in ("cuda", "cpu")
    )
    assert np.abs(ours - reference).max() <= GREY_LEVELS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("steps", [1, 4])
def test_half_precision_is_near_it(on_cpu: Model, dtype: str, steps: int) -> None:
    half = painted(fewstep.load("starter", device="cuda", dtype=dtype), steps=steps)
    assert np.abs(half - painted(on_cpu, steps=steps)).mean() <= NEAR[dtype]


def test_a_picture_alone_is_the_one_among_others() -> None:
    model = fewstep.load("starter", device="cuda", dtype="float32")
    together = painted(model)
    alone = bytes_of([fewstep.text2image(model, words, seed=3, steps=4) for words in PROMPTS])
    assert np.abs(together - alone).max() <= GREY_LEVELS


def test_a_picture_over_a_picture(on_cpu: Model) -> None:
    under = fewstep.text2image(on_cpu, PROMPTS[0], seed=3, steps=4)
    ours, reference = (
        fewstep.image2image(model, PROMPTS[1], under, strength=0.6, seed=5, steps=4)
        for model in (fewstep.load("starter", device="cuda", dtype="float32"), on_cpu)
    )
    assert np.abs(bytes_of([ours]) - bytes_of([reference])).max() <= GREY_LEVELS


def test_the_teacher_with_guidance() -> None:
    options = {"steps": 8, "guidance_scale": 4.0, "negative_prompt": "red"}
    ours, reference = (
        painted(fewstep.load("starter-teacher", device=device, dtype="float32"), **options)
        for device in ("cuda", "cpu")
    )
    assert np.abs(ours - reference).max() <= 2 * GREY_LEVELS  # twice the calls, and guidance multiplies what differs


def test_an_adapter_is_weighed_there_too(on_cpu: Model) -> None:
    ours, reference = (
        painted(fewstep.load("starter", device=device, dtype="float32", loras=["blue-ink"]), loras={"blue-ink": 0.7})
        for device in ("cuda", "cpu")
    )
    assert np.abs(ours - reference).max() <= GREY_LEVELS
    assert np.abs(ours - painted(on_cpu)).mean() > 1, "an adapter that changes nothing proves nothing"
