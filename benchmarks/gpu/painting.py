"""Ours beside diffusers' pipeline, from words to PIL images, on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

import fewstep
from benchmarks.gpu.models import generators, prompts
from benchmarks.gpu.stage import Bench
from benchmarks.gpu.timing import in_turns, operations
from fewstep.models.model import Model

Paint = Callable[[], Sequence[Image]]


def dtype_for(bench: Bench) -> torch.dtype:
    return torch.float16 if bench.device == "cuda" else torch.float32


def ours(model: Model, steps: int, batch: int) -> Paint:
    """Every picture of seed 0, which with its words makes them differ."""
    words = prompts(batch)
    return lambda: fewstep.text2image(model, words, steps=steps, seed=0, batch_size=batch)


def theirs(pipeline: Any, model: Model, steps: int, batch: int, **more: Any) -> Paint:
    """The same pictures; `model` says the size and the guidance scale, `more` goes to the pipeline's call."""
    words, (height, width) = prompts(batch), model.traits.default_size
    options = {"height": height, "width": width, "guidance_scale": model.profile.guidance.scale, **more}
    noise = [0] * batch
    return lambda: pipeline(prompt=words, num_inference_steps=steps, generator=generators(noise), **options).images


def compare(bench: Bench, name: str, calls: dict[str, Paint], batch: int, *, seconds: float) -> None:
    """Record the times of `calls`, the first of which is ours, their rates, and how far their pictures are `apart`.

    apart  the mean difference of the others' pictures from ours, of 255 grey levels
    """
    work = operations(next(iter(calls.values())))
    first, *others = (_bytes(call()) for call in calls.values())
    row = in_turns(calls, bench.device, rounds=1 if bench.tiny else 30, seconds=0.0 if bench.tiny else seconds)
    for each in calls:
        row[each]["pictures_per_second"] = round(1e3 * batch / row[each]["ms"]["median"], 2)
        row[each]["tflop_per_second"] = round(work / row[each]["ms"]["median"] / 1e9, 3)
    row["apart"] = {
        each: round(_apart(first, pictures), 3) for each, pictures in zip([*calls][1:], others, strict=True)
    }
    bench.record(name, row | {"tflop": round(work / 1e12, 4)})


def _bytes(images: Sequence[Image]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.int16) for image in images])


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())
