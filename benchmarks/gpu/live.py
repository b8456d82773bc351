"""The live engine in this process, without HTTP: sessions that ask for their next picture when the last one came.

Pictures a second of all sessions together, each as JPEG; beside it the usual design, diffusers' pipeline behind a lock
with Pillow's JPEG, whose rate does not depend on how many wait.
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import fewstep
from benchmarks.gpu.painting import dtype_for, theirs
from benchmarks.gpu.stage import Bench
from benchmarks.gpu.timing import seconds_of, spread
from benchmarks.rival import as_diffusers_opens
from fewstep.models.loading import FAST
from fewstep.models.model import Model
from fewstep.pipelines.request import Request
from fewstep.server.coding import Coding, encode
from fewstep.server.engine import Engine

WORDS = ("a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot")
SESSIONS = (8, 32)
STEPS = (1, 2)


def run(bench: Bench) -> None:
    dtype = dtype_for(bench)
    model = fewstep.load("starter", device=bench.device, dtype=dtype, vae=FAST)
    warm, seconds = (0.0, 0.2) if bench.tiny else (1.0, 4.0)
    for steps in STEPS:
        usual = the_usual_design(bench, steps)
        bench.record(f"usual design, {steps} steps", usual)
        for sessions in SESSIONS:
            row = asyncio.run(measured(model, sessions, steps, warm, seconds))
            row["ratio"] = round(row["pictures_per_second"] / usual["pictures_per_second"], 2)
            bench.record(f"{sessions} sessions, {steps} steps", row)


async def measured(model: Model, sessions: int, steps: int, warm: float, seconds: float) -> dict[str, Any]:
    """Pictures a second, and latencies in ms."""
    engine = Engine(model, max_batch=max(SESSIONS))
    engine.start()
    begins = time.perf_counter() + warm
    try:
        every = await asyncio.gather(*(session(engine, i, steps, begins, begins + seconds) for i in range(sessions)))
        elapsed = time.perf_counter() - begins
    finally:
        await engine.stop()
    latencies = sorted(1e3 * each for one in every for each in one)
    if not latencies:
        raise RuntimeError(f"no picture came within {seconds:g} s")
    result: dict[str, Any] = {"pictures_per_second": round(len(latencies) / elapsed, 1), "ms": spread(latencies)}
    return result | {"p95_ms": round(latencies[int(0.95 * (len(latencies) - 1))], 1)}


async def session(engine: Engine, number: int, steps: int, begins: float, ends: float) -> list[float]:
    """A person who changes the seed as soon as a picture came: the seconds that each took, from `begins` on."""
    latencies = []
    words, seed = WORDS[number % len(WORDS)], 0
    with engine.lane() as lane:
        while (started := time.perf_counter()) < ends:
            seed += 1
            order = await engine.order(Request.of(words, seed=seed, steps=steps))
            (pixels,) = await engine.pictures(lane, order)
            await asyncio.to_thread(encode, pixels, Coding())
            if begins <= started:
                latencies.append(time.perf_counter() - started)
    return latencies


def the_usual_design(bench: Bench, steps: int) -> dict[str, Any]:
    """One picture after the other."""
    from diffusers import DiffusionPipeline

    model = fewstep.load("starter", device=bench.device, dtype=dtype_for(bench))
    with as_diffusers_opens("starter") as folder:
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=model.dtype).to(bench.device)
    pipeline.set_progress_bar_config(disable=True)
    paint = theirs(pipeline, model, steps, 1, eta=model.profile.gamma)

    def call() -> None:
        paint()[0].save(io.BytesIO(), "JPEG", quality=90)

    call()
    taken = spread([seconds_of(call, bench.device) for _ in range(3 if bench.tiny else 30)])
    return {"pictures_per_second": round(1 / taken["median"], 1), "seconds": taken}
