"""How long a fresh process takes to its first picture: ours beside a script with diffusers' pipeline, and torch alone.

    python -m benchmarks.cold_start          (writes benchmarks/results/cold_start.md; about a minute)

All run in turn, round after round, from the page cache: the first round is not counted. A figure is the median of the
rest; `in torch` is the median of each round's ratio to `import torch`, which is the floor, and says how busy or slow
a machine is. CPU is user and system together, of all threads.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks import report
from benchmarks.rival import as_diffusers_opens
from fewstep.core.profile import SamplingProfile
from fewstep.models.folder import Folder

TORCH = "import torch"
OURS, THEIRS = 'fewstep generate "a fox"', "the same by a script with diffusers"
SEED = 1
# what its documentation shows, and no more: the pipeline finds scheduler and classes by the folder
SCRIPT = """
import sys, torch
from diffusers import DiffusionPipeline
folder, picture, steps, guidance, eta, seed = sys.argv[1:]
pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
noise = torch.Generator().manual_seed(int(seed))
asked = dict(num_inference_steps=int(steps), guidance_scale=float(guidance), eta=float(eta), generator=noise)
pipeline("a fox", **asked).images[0].save(picture)
"""


@dataclass(frozen=True)
class Took:
    """A run of a process, in seconds."""

    wall: float
    cpu: float


def main(rounds: Annotated[int, typer.Option(help="That are counted.", min=1)] = 7) -> None:
    """Start each again and again, and write the table."""
    with TemporaryDirectory() as home, as_diffusers_opens("starter") as folder:
        pictures = {OURS: Path(home) / "ours.png", THEIRS: Path(home) / "theirs.png"}
        commands = dict(_commands(folder, Folder.read(folder).profile, pictures))
        runs = [{name: _took(command) for name, command in commands.items()} for _ in range(rounds + 1)][1:]
        ours, theirs = (np.asarray(Image.open(picture).convert("RGB"), dtype=int) for picture in pictures.values())
    apart = int(np.abs(ours - theirs).max())
    text = f"{_table(runs)}\n\nMedians of {rounds} rounds. The two pictures differ by at most {apart} of 255.\n"
    typer.echo(text)
    report.write("cold_start", report.command("cold_start", rounds=rounds), title="Cold start", text=text)


def _commands(folder: Path, profile: SamplingProfile, pictures: Mapping[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Each by what it is called; `folder`: the starter, as diffusers opens it."""
    python = [sys.executable]
    yield TORCH, [*python, "-c", "import torch"]
    yield "import fewstep", [*python, "-c", "import fewstep"]
    yield "fewstep --help", [*python, "-m", "fewstep", "--help"]
    yield OURS, [*python, "-m", "fewstep", "generate", "a fox", "--seed", f"{SEED}", "--output", f"{pictures[OURS]}"]
    settings = (profile.steps, profile.guidance.scale, profile.gamma, SEED)
    yield THEIRS, [*python, "-c", SCRIPT, f"{folder}", f"{pictures[THEIRS]}", *map(str, settings)]


def _took(command: list[str]) -> Took:
    before, started = _cpu(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return Took(time.perf_counter() - started, _cpu() - before)


def _cpu() -> float:
    """Seconds of processors that the processes took which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _table(runs: list[dict[str, Took]]) -> str:
    lines = ["| | seconds | in torch | CPU seconds | in torch |", "| --- | --: | --: | --: | --: |"]
    for name in runs[0]:
        cells = []
        for clock in ("wall", "cpu"):
            took = [getattr(each[name], clock) for each in runs]
            floor = [getattr(each[TORCH], clock) for each in runs]
            ratio = statistics.median(one / other for one, other in zip(took, floor, strict=True))
            cells += [f"{statistics.median(took):.2f}", f"{ratio:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
