"""SDXL at 1024 x 1024 in true size: a consistency model without guidance, as with an LCM-LoRA; eager."""

from __future__ import annotations

from benchmarks.gpu.models import random_bundle, rival_of, sdxl
from benchmarks.gpu.painting import compare, dtype_for, ours, theirs
from benchmarks.gpu.stage import Bench


def run(bench: Bench) -> None:
    from diffusers import StableDiffusionXLPipeline

    model = random_bundle(sdxl(bench.tiny), "lcm", bench.device, dtype_for(bench))
    pipeline = rival_of(model, StableDiffusionXLPipeline, add_watermarker=False)
    for batch, steps in ((1, 4), (1, 1)) if bench.tiny else ((1, 4), (1, 1), (4, 4)):
        calls = {"ours": ours(model, steps, batch), "diffusers": theirs(pipeline, model, steps, batch)}
        compare(bench, f"batch {batch}, {steps} steps", calls, batch, seconds=8)
