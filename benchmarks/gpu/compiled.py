"""SD1.5 with TAESD, ours eager beside diffusers compiled by regions: one block, whose code the others share."""

from __future__ import annotations

import dataclasses
import time

from benchmarks.gpu.models import random_bundle, rival_of, sd1, tiny_autoencoder
from benchmarks.gpu.painting import compare, dtype_for, ours, theirs
from benchmarks.gpu.sd15 import NO_CHECK
from benchmarks.gpu.stage import Bench
from benchmarks.gpu.timing import seconds_of


def run(bench: Bench) -> None:
    """`compile_seconds` is what the first call took more than the second; a dry run does not compile."""
    from diffusers import LatentConsistencyModelPipeline

    dtype = dtype_for(bench)
    model = random_bundle(sd1(bench.tiny, reads_w=True), "lcm", bench.device, dtype)
    model = dataclasses.replace(model, autoencoder=tiny_autoencoder(bench.device, dtype))
    pipeline = rival_of(model, LatentConsistencyModelPipeline, **NO_CHECK)
    if not bench.tiny:
        pipeline.unet.compile_repeated_blocks(fullgraph=True)
    call = theirs(pipeline, model, 4, 1)
    started = time.perf_counter()
    first, second = seconds_of(call, bench.device), seconds_of(call, bench.device)
    bench.record("compile_seconds", round(first - second, 2))
    bench.record("until_compiled", round(time.perf_counter() - started, 2))
    compare(bench, "TAESD, batch 1, 4 steps", {"ours": ours(model, 4, 1), "diffusers, compiled": call}, 1, seconds=8)
