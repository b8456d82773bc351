"""How long one picture takes, how many a second there are, and how much memory that needs, on the device at hand."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import psutil
import torch

from fewstep.evaluate.candidates import Candidate
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.generate import generate_plan


@dataclass(frozen=True)
class Speed:
    """Of one candidate, from words to a picture.

    p50, p95             seconds for one picture alone
    pictures_per_second  of batches of `batch_size`
    peak_memory          bytes: on a GPU what torch allocated, elsewhere all that the process holds
    """

    p50: float
    p95: float
    pictures_per_second: float
    batch_size: int
    peak_memory: int
    rounds: int


def measure_speed(
    candidates: Sequence[Candidate],
    model: LatentModel,
    prompts: Sequence[str],
    batch_size: int,
    rounds: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Speed]:
    """Of candidates that share a model, in turns: what else the machine does in the meantime hits all alike."""
    alone: list[list[float]] = [[] for _ in candidates]
    together: list[list[float]] = [[] for _ in candidates]
    peaks = [0 for _ in candidates]
    for turn in range(-1, rounds):  # the first is a rehearsal
        for index, candidate in enumerate(candidates):
            with PeakMemory(model.device) as memory:
                one = _seconds(candidate, model, prompts[:1], 1)
                many = _seconds(candidate, model, prompts, batch_size) if turn < 1 else None
            if turn >= 0:
                alone[index].append(one)
                peaks[index] = max(peaks[index], memory.peak)
            if many is not None and turn >= 0:
                together[index].append(many)
        if on_progress is not None:
            on_progress(turn + 2, rounds + 1)
    return [
        Speed(
            p50=quantile(one, 0.5),
            p95=quantile(one, 0.95),
            pictures_per_second=batch_size / min(many),
            batch_size=batch_size,
            peak_memory=peak,
            rounds=rounds,
        )
        for one, many, peak in zip(alone, together, peaks, strict=True)
    ]


def quantile(values: Sequence[float], q: float) -> float:
    """By linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _seconds(candidate: Candidate, model: LatentModel, prompts: Sequence[str], count: int) -> float:
    texts = [prompts[i % len(prompts)] for i in range(count)]
    plan = candidate.plan(model, texts, range(count), count)
    _wait(model.device)
    started = time.perf_counter()
    generate_plan(model, plan)
    _wait(model.device)
    return time.perf_counter() - started


class PeakMemory:
    """The most memory in use between entering and leaving."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._process = psutil.Process()
            self._watch = threading.Thread(target=self._look, daemon=True)
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self._over.set()
            self._watch.join()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            if self._over.wait(0.01):
                return


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
