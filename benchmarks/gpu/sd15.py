"""SD1.5 at 512 x 512 in true size, with w embedded as the published consistency models have it.

With TAESD's decoder on both sides, and once with the KL autoencoder's.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

import fewstep
from benchmarks.gpu.models import generators, random_bundle, rival_of, sd1, tiny_autoencoder
from benchmarks.gpu.painting import Paint, compare, dtype_for, ours, theirs
from benchmarks.gpu.stage import Bench

PROMPT = "a sleepy fox"
NO_CHECK = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def run(bench: Bench) -> None:
    from diffusers import LatentConsistencyModelImg2ImgPipeline, LatentConsistencyModelPipeline

    dtype = dtype_for(bench)
    with_kl = random_bundle(sd1(bench.tiny, reads_w=True), "lcm", bench.device, dtype)
    model = dataclasses.replace(with_kl, autoencoder=tiny_autoencoder(bench.device, dtype))
    pipeline = rival_of(model, LatentConsistencyModelPipeline, **NO_CHECK)
    for batch, steps in ((1, 4), (1, 1), (2, 4)) if bench.tiny else ((1, 4), (1, 1), (16, 4), (16, 1)):
        calls = {"ours": ours(model, steps, batch), "diffusers": theirs(pipeline, model, steps, batch)}
        compare(bench, f"TAESD, batch {batch}, {steps} steps", calls, batch, seconds=8)

    picture = drawing(model.traits.default_size)
    again = LatentConsistencyModelImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    over: dict[str, Paint] = {
        "ours": lambda: [fewstep.image2image(model, PROMPT, picture, steps=1, strength=0.5, seed=0)],
        "diffusers": lambda: (
            again(
                PROMPT, picture, num_inference_steps=1, strength=0.5, guidance_scale=8.0, generator=generators([0])
            ).images
        ),
    }
    compare(bench, "TAESD, img2img, batch 1, 1 steps", over, 1, seconds=5)

    pipeline = rival_of(with_kl, LatentConsistencyModelPipeline, **NO_CHECK)
    calls = {"ours": ours(with_kl, 4, 1), "diffusers": theirs(pipeline, with_kl, 4, 1)}
    compare(bench, "KL, batch 1, 4 steps", calls, 1, seconds=5)


def drawing(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BICUBIC)
