"""The starter: ours eager beside diffusers' own pipeline, and our fast decoder."""

from __future__ import annotations

import torch

import fewstep
from benchmarks.gpu.painting import compare, dtype_for, ours, theirs
from benchmarks.gpu.stage import Bench
from benchmarks.rival import as_diffusers_opens
from fewstep.models.loading import FAST


def run(bench: Bench) -> None:
    from diffusers import DiffusionPipeline

    dtype = dtype_for(bench)
    model = fewstep.load("starter", device=bench.device, dtype=dtype)
    fast = fewstep.load("starter", device=bench.device, dtype=dtype, vae=FAST)
    with as_diffusers_opens("starter") as folder:
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype).to(bench.device)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    pipeline.unet.fuse_qkv_projections()
    for batch in (1, 2) if bench.tiny else (1, 64):
        for steps in (1, 4):
            calls = {
                "ours": ours(model, steps, batch),
                "diffusers": theirs(pipeline, model, steps, batch, eta=model.profile.gamma),
                "ours, fast decoder": ours(fast, steps, batch),
            }
            compare(bench, f"batch {batch}, {steps} steps", calls, batch, seconds=5)
