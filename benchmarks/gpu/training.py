"""A step of distillation at the size of SD1.5, of the whole network and of a LoRA: ours beside the public script's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.models import TOKENS, random_bundle, sd1
from benchmarks.gpu.script import Script
from benchmarks.gpu.stage import Bench
from benchmarks.gpu.timing import spread, wait
from fewstep.core.settings import Value
from fewstep.data.latents import LatentCache
from fewstep.models.model import Model
from fewstep.train.config import RunConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.loop import fit
from fewstep.train.method import training_of

ROWS = 64  # pictures in the cache
BATCH = 8
RANK = 64
GUIDANCE = (5.0, 15.0)  # of w, as the script draws it

Steps = Callable[[int], list[float]]


class _Enough(Exception):
    """Ends a run without a checkpoint, whose gigabytes nobody wants here."""


def run(bench: Bench) -> None:
    for name, lora in (("full", False), ("lora", True)):
        compare(bench, name, lora=lora)
        if bench.device == "cuda":
            torch.cuda.empty_cache()


def compare(bench: Bench, name: str, *, lora: bool) -> None:
    """Record seconds a step, pictures a second and peak memory of both, in turns of a few steps."""
    peaks, sides = {}, {}
    for side, made in (("ours", our_steps), ("script", their_steps)):
        before = _memory(bench)
        sides[side] = made(bench, lora=lora)
        sides[side](2)
        peaks[side] = _peak(bench, before)
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(1 if bench.tiny else 3):
        for side, steps in sides.items():
            taken[side] += steps(2 if bench.tiny else 5)
    batch = _batch(bench)
    row: dict[str, Any] = {
        side: {
            "seconds": spread(times),
            "pictures_per_second": round(batch / spread(times)["median"], 2),
            "peak_mib": peaks[side],
        }
        for side, times in taken.items()
    }
    row["ratio"] = spread([b / a for a, b in zip(taken["ours"], taken["script"], strict=True)])
    bench.record(f"{name}, batch {batch}", row)


def our_steps(bench: Bench, *, lora: bool) -> Steps:
    """`steps(n)` trains n steps and returns the seconds of each but the first."""
    model = random_bundle(sd1(bench.tiny, reads_w=False), "diffusion", bench.device, torch.bfloat16)
    for part in (*model.text.encoders.values(), model.autoencoder.module):
        part.to("cpu")  # as in a run, once the cache is built
    training = training_of(_config(bench, lora=lora), model, "random")
    cache = random_cache(model)
    task = training.task(cache)

    def steps(count: int) -> list[float]:
        times: list[float] = []

        def on_step(seen: int, scalars: dict[str, float]) -> None:
            wait(bench.device)
            times.append(time.perf_counter())
            if len(times) == count + 1:
                raise _Enough

        with tempfile.TemporaryDirectory() as folder:
            try:
                fit(training.network, task, len(cache), training.config.fit, Path(folder), on_step=on_step)
            except _Enough:
                return _between(times)
        raise RuntimeError("the run ended before its steps were counted")

    return steps


def their_steps(bench: Bench, *, lora: bool) -> Steps:
    """The same of the script."""
    script = Script.made(sd1(bench.tiny, reads_w=not lora), bench.device, RANK if lora else None, GUIDANCE)
    side = 8 * script.latents
    pixels = torch.randn(_batch(bench), 3, side, side, device=bench.device).clamp(-1, 1)

    def steps(count: int) -> list[float]:
        times = []
        for _ in range(count + 1):
            script.step(pixels)
            wait(bench.device)
            times.append(time.perf_counter())
        return _between(times)

    return steps


def random_cache(model: Model) -> LatentCache:
    """Latents and text states of pictures that never were."""
    torch.manual_seed(0)
    latents = torch.randn(ROWS, *model.traits.latent_shape(*model.traits.default_size))
    states = torch.randn(ROWS + 1, TOKENS, model.text_width).half()
    return LatentCache(latents, states, torch.arange(1, ROWS + 1).unsqueeze(1))


def _config(bench: Bench, *, lora: bool) -> RunConfig:
    config = default_config("distill", "random", "none", lora=lora, phases=1, trajectory=False)
    settings: dict[str, Value] = {
        "fit.pictures": 10**9,
        "fit.batch_size": _batch(bench),
        "fit.precision": "bfloat16",
        "objective.w_range": GUIDANCE,
        "device": bench.device,
        "fit.checkpoint_minutes": 1e9,
        "lora.rank": RANK if lora else None,
    }
    return changed(config, settings)


def _between(times: list[float]) -> list[float]:
    return [b - a for a, b in pairwise(times)]


def _memory(bench: Bench) -> int:
    if bench.device != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(bench: Bench, before: int) -> int | None:
    return round((torch.cuda.max_memory_allocated() - before) / 2**20) if bench.device == "cuda" else None


def _batch(bench: Bench) -> int:
    return 2 if bench.tiny else BATCH
