"""Whether anything has become slower: a few figures beside those that were recorded last, in one to two minutes.

    make bench-quick          or python -m benchmarks.quick --record          (writes benchmarks/results/quick.json)

Everything runs on one thread and is timed in seconds of the processor, so that other work on the machine disturbs it
little, and beside a small kernel (products of matrices, and a loop of Python's) that runs after every single call. A
figure is the median of the calls' ratios to the kernel: it says the same on a busy machine, and nearly so on another of
its kind. What is slower than the record by more than the quartiles of both and 15 % is marked, and the command fails.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

import fewstep
from benchmarks import report
from fewstep.core.settings import Value
from fewstep.data.latents import LatentCache
from fewstep.models.model import Model
from fewstep.train.config import RunConfig
from fewstep.train.defaults import changed, default_config
from fewstep.train.loop import fit
from fewstep.train.method import training_of

NOISE = 0.15  # of a ratio, beside its quartiles
BATCH = 8  # of the training step
TOKENS = 24


@dataclass(frozen=True)
class Figure:
    """Of many calls: the median in milliseconds, and that of their ratios to the kernel with its quartiles."""

    ms: float
    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: list[float], ratios: list[float]) -> Figure:
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return cls(*(round(each, 4) for each in (1e3 * statistics.median(seconds), middle, low, high)))

    def is_slower_than(self, before: Figure) -> bool:
        return self.low > before.high * (1 + NOISE)


class _Enough(Exception):
    """So many calls were timed."""


@dataclass
class Laps:
    """Called after each call: times it, and then the kernel; raises `_Enough` after `count` and `warm` calls before."""

    count: int
    warm: int = 2
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    kernel: Callable[[], None] = field(default_factory=lambda: kernel())

    def __post_init__(self) -> None:
        self.kernel()
        self._started = clock()

    def __call__(self) -> None:
        took, before = clock() - self._started, clock()
        self.kernel()
        if self.warm:
            self.warm -= 1
        else:
            self.seconds.append(took)
            self.ratios.append(took / (clock() - before))
        if len(self.seconds) == self.count:
            raise _Enough
        self._started = clock()


def clock() -> float:
    """Seconds of processors that this process has taken, and those that it started and that have ended."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + others.ru_utime + others.ru_stime


def kernel() -> Callable[[], None]:
    x = torch.randn(512, 512)

    def run() -> None:
        for _ in range(4):
            x @ x
        sum(number * number for number in range(30_000))

    return run


def main(
    record: Annotated[bool, typer.Option(help="Keep these figures, for the next ones to be compared with.")] = False,
    share: Annotated[float, typer.Option(help="Of the usual number of calls.", min=0)] = 1,
) -> None:
    """Time everything, and print it beside the record."""
    torch.set_num_threads(1)
    before = _recorded()
    figures: dict[str, Figure] = {}
    print(f"{'':28} {'ms':>9} {'in kernels':>11} {'recorded':>9} {'change':>7}")
    for name, (count, run) in _runs().items():
        laps = Laps(max(1, round(share * count)))
        try:
            run(laps)
        except _Enough:
            figures[name] = Figure.of(laps.seconds, laps.ratios)
        print(_line(name, figures[name], before.get(name)), flush=True)
    if record:
        values = {"figures": {name: asdict(figure) for name, figure in figures.items()}}
        report.write("quick", report.command("quick", record=True, share=share), values=values)
    elif any(name in before and figure.is_slower_than(before[name]) for name, figure in figures.items()):
        raise typer.Exit(1)


def _recorded() -> Mapping[str, Figure]:
    file = report.RESULTS / "quick.json"
    if not file.is_file():
        return {}
    return {name: Figure(**figure) for name, figure in json.loads(file.read_text())["figures"].items()}


def _line(name: str, now: Figure, before: Figure | None) -> str:
    line = f"{name:28} {now.ms:9.1f} {now.ratio:11.3f}"
    if before is None:
        return line
    mark = "  slower" if now.is_slower_than(before) else ""
    return f"{line} {before.ratio:9.3f} {now.ratio / before.ratio - 1:+7.1%}{mark}"


def _runs() -> dict[str, tuple[int, Callable[[Laps], None]]]:
    """Each figure's number of calls, and what calls again and again."""
    model = fewstep.load("starter", device="cpu", dtype="float32")
    height, width = model.traits.default_size
    words = (f"a fox, number {number}" for number in itertools.count())
    cond = model.conditioned(model.encode_text(["a fox"]), height, width)
    x_t = torch.randn(1, *model.traits.latent_shape(height, width))
    times, w = torch.tensor([500]), torch.tensor([2.0])

    def painted(steps: int) -> Callable[[], object]:
        return lambda: fewstep.text2image(model, "a fox", steps=steps, seed=1)

    def called() -> object:
        with torch.no_grad():
            return model.network(x_t, times, cond, w)

    return {
        "starter, 1 step": (30, _again(painted(1))),
        "starter, 4 steps": (20, _again(painted(4))),
        "words": (60, _again(lambda: model.encode_prompts([next(words)]))),
        "a call of the network": (60, _again(called)),
        "decoding": (40, _again(lambda: model.decode(x_t))),
        "cold start, one picture": (7, _again(_started_cold)),
        f"LoRA step, batch {BATCH}": (8, _trained),
    }


def _again(call: Callable[[], object]) -> Callable[[Laps], None]:
    def run(laps: Laps) -> None:
        while True:
            call()
            laps()

    return run


def _started_cold() -> None:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fewstep", "generate", "a fox", "--seed", "1", "-o", f"{folder}/fox.png"]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _trained(laps: Laps) -> None:
    """Steps of a LoRA's distillation from the starter's teacher, over latents that never were."""
    model = fewstep.load("starter-teacher", device="cpu", dtype="float32", memory="full")
    training = training_of(_config(), model, "quick")
    cache = _cache(model)
    with TemporaryDirectory() as folder:
        task, config = training.task(cache), training.config.fit
        fit(training.network, task, len(cache), config, Path(folder), on_step=lambda *_: laps())


def _config() -> RunConfig:
    config = default_config("distill", "starter-teacher", "none", lora=True, phases=1, trajectory=False)
    settings: dict[str, Value] = {
        "fit.pictures": 10**9,
        "fit.batch_size": BATCH,
        "fit.checkpoint_minutes": 1e9,
        "device": "cpu",
    }
    return changed(config, settings)


def _cache(model: Model) -> LatentCache:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(64, *model.traits.latent_shape(*model.traits.default_size), generator=generator)
    states = torch.randn(65, TOKENS, model.text_width, generator=generator).half()
    return LatentCache(latents, states, torch.arange(1, 65).unsqueeze(1))


if __name__ == "__main__":
    typer.run(main)
