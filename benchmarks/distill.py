"""LCM-LoRA training against the public script: pictures per second and peak memory, on the same teacher and pictures.

    git clone https://github.com/huggingface/diffusers
    python -m benchmarks.distill diffusers/examples/consistency_distillation/train_lcm_distill_lora_sd_wds.py

The script comes from diffusers or, as it was first published, from luosiallen/latent-consistency-model; it is run as it
is, in a process of its own. Both train a LoRA of the same rank on the same layers, with batches of the same size, by
AdamW and the Huber loss, from the same pictures. Each runs twice, for a few steps and for more, so that what happens
once (imports, loading, encoding) drops out of the speed; runs of the two alternate, and the best of each counts. Peak
memory is that of all processes of a run together, with and without the pages of mapped files, which the kernel may drop
and read again (Linux only); what Python and the libraries take before any model is loaded stands beside it. It is
watched in a run of its own, which is not timed: to add up a process's pages takes it time, and the more of it the more
often its memory changes.
`--size sd15` trains at the true size of Stable Diffusion 1.5, with random weights, on one small picture a step. Writes
benchmarks/results/distill-SIZE.json; without a script fewstep is measured alone, into distill-SIZE-alone.json.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import fewstep
from benchmarks import report
from fewstep.data.building import build_cache
from fewstep.data.config import DataConfig
from fewstep.models.families.sd import SD1
from fewstep.models.folder import locate
from fewstep.models.saving import save
from recipes.emoji import art

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16"}  # fewstep's names, accelerate's
LOOK = 0.02  # seconds between two looks at the memory
LIBRARIES = """
import torch, peft
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
"""


@dataclass(frozen=True)
class Cost:
    """Of one run: the most bytes that its processes held together, and the most that were in no file."""

    memory: int
    anonymous: int


@dataclass(frozen=True)
class Task:
    """What both train, as each of them is told."""

    teacher: Path
    tar: Path
    cache: Path
    resolution: int
    batch_size: int
    rank: int
    accumulate: int
    precision: str

    def their_command(self, script: Path, output: Path, steps: int) -> list[str]:
        options = {
            "pretrained_teacher_model": self.teacher,
            "output_dir": output,
            "train_shards_path_or_url": self.tar,
            "resolution": self.resolution,
            "max_train_samples": 100_000,
            "dataloader_num_workers": 1,
            "train_batch_size": self.batch_size // self.accumulate,
            "gradient_accumulation_steps": self.accumulate,
            "max_train_steps": steps,
            "lora_rank": self.rank,
            "learning_rate": 1e-4,
            "loss_type": "huber",
            "mixed_precision": MIXED_PRECISION[self.precision],
            "lr_warmup_steps": 1,
            "validation_steps": 10**9,
            "checkpointing_steps": 10**9,
            "seed": 0,
        }
        return [sys.executable, str(script), *(f"--{name}={value}" for name, value in options.items())]

    def our_command(self, output: Path, steps: int) -> list[str]:
        options = {
            "teacher": self.teacher,
            "data": self.cache,
            "output": output,
            "batch-size": self.batch_size,
            "accumulate": self.accumulate,
            "pictures": self.batch_size * steps,
            "rank": self.rank,
            "precision": self.precision,
            "lr": 1e-4,
            "guidance": "6:16",
            "phases": 1,
            "every": 10**9,
            "prompt": "a cat",
            "steps": 1,
            "device": "cpu",
        }
        command = [sys.executable, "-m", "fewstep", "distill", "--lora"]
        return [*command, *(f"--{name}={value}" for name, value in options.items())]


def main(
    script: Annotated[
        Path | None, typer.Argument(help="train_lcm_distill_lora_sd_wds.py in a checkout. [default: fewstep alone]")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the recipe built the art.")] = Path("build/starter"),
    work: Annotated[Path, typer.Option(help="For the runs; kept.")] = Path("build/benchmark-distill"),
    size: Annotated[str, typer.Option(help="Of the teacher: starter, or sd15 with random weights.")] = "starter",
    resolution: Annotated[int, typer.Option(help="Pixels.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    rank: Annotated[int, typer.Option(help="Of the LoRA.")] = 64,
    accumulate: Annotated[int, typer.Option(help="Parts that both divide a batch into.")] = 1,
    precision: Annotated[str, typer.Option(help=f"Of both: {', '.join(MIXED_PRECISION)}.")] = "float32",
    short: Annotated[int, typer.Option(help="Steps of the short runs.")] = 4,
    long: Annotated[int, typer.Option(help="Steps of the long runs.")] = 24,
    rounds: Annotated[int, typer.Option(help="Repetitions.")] = 2,
) -> None:
    """Prepare the teacher and the pictures, run both, and write the comparison."""
    if precision not in MIXED_PRECISION:
        raise typer.BadParameter(f"unknown precision {precision!r}; known are {', '.join(MIXED_PRECISION)}")
    task = Task(*_prepare(folder, work / size, size, resolution), resolution, batch_size, rank, accumulate, precision)
    commands: dict[str, Callable[[int], list[str]]] = {
        "fewstep": lambda steps: task.our_command(Path(tempfile.mkdtemp(dir=work / size)), steps)
    }
    if script is not None:
        commands["script"] = partial(task.their_command, script, work / size / "script")
    seconds: dict[tuple[str, int], list[float]] = {(name, steps): [] for name in commands for steps in (short, long)}
    for index in range(rounds):
        for (name, steps), taken in seconds.items():
            taken.append(_timed(commands[name](steps)))
            typer.echo(f"round {index}, {name}, {steps} steps: {taken[-1]:.1f} s")
    libraries = _watched([sys.executable, "-c", LIBRARIES])
    costs = {name: _watched(command(long)) for name, command in commands.items()}
    runs = {
        name: {
            "pictures_per_second": round(
                (long - short) * batch_size / (min(seconds[name, long]) - min(seconds[name, short])), 3
            ),
            "seconds_for_everything": round(min(seconds[name, long]), 1),
            **_megabytes(costs[name], libraries),
        }
        for name in commands
    }
    options = {"size": size, "resolution": resolution, "batch_size": batch_size, "rank": rank}
    options |= {"accumulate": accumulate, "precision": precision, "short": short, "long": long, "rounds": rounds}
    values: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "rank": rank,
        "megabytes_of_libraries": round(libraries.memory / 1e6),
        "runs": runs,
    }
    if script is not None:
        ours, theirs = runs["fewstep"], runs["script"]
        values |= {"script": script.name, "ratios": {name: round(ours[name] / theirs[name], 2) for name in ours}}
    name = (
        f"distill-{size}"
        + ("-alone" if script is None else "")
        + (f"-accumulate-{accumulate}" if accumulate > 1 else "")
    )
    name += "" if precision == "float32" else f"-{precision}"
    line = report.command("distill", *(["SCRIPT"] if script else []), **options)
    result = report.write(name, line, values=values)
    typer.echo(json.dumps(result, indent=2))


def _prepare(folder: Path, work: Path, size: str, resolution: int) -> tuple[Path, Path, Path]:
    """The teacher as one folder, pictures with captions in a tar, and the same in a cache.

    There are more than the script's shuffling reads ahead, for its tar reader fails at a tar's end. Where a step of the
    network takes seconds fewstep gets one, because it begins by painting eight captions.
    """
    count = 2_048
    work.mkdir(parents=True, exist_ok=True)
    teacher, tar, cache = work / "teacher", work / "pictures.tar", work / f"cache-{resolution}"
    if not teacher.is_dir():
        model = fewstep.load("starter-teacher", device="cpu", dtype="float32")
        save(model, teacher, locate("starter-teacher"), dtype="float32")
        _lengthen(teacher)
        if size == "sd15":
            networks: dict[str, Any] = {part: SD1.blank(part) for part in SD1.networks}
            networks["unet"].register_to_config(sample_size=resolution // 8)
            for part, network in networks.items():
                network.to_empty(device="cpu").apply(_small).save_pretrained(teacher / part)
    if not tar.is_file():
        pictures, pixels = art.load(folder)
        with tarfile.open(tar, "w") as file:
            for index, (picture, values) in enumerate(zip(pictures[:count], pixels, strict=False)):
                buffer = io.BytesIO()
                Image.fromarray(values).resize((resolution, resolution)).save(buffer, "PNG")
                _add(file, f"{index:05d}.png", buffer.getvalue())
                _add(file, f"{index:05d}.txt", next(picture.captions()).encode())
    if not cache.is_dir():
        source = str(tar)
        if size == "sd15":
            source = str(work / "picture.tar")
            with tarfile.open(tar) as many, tarfile.open(source, "w") as one:
                for info in many.getmembers()[:2]:
                    one.addfile(info, many.extractfile(info))
        config = DataConfig(source=source, size=(resolution, resolution))
        build_cache(fewstep.load(teacher, device="cpu"), config, cache)
    return teacher, tar, cache


@torch.no_grad()
def _small(module: nn.Module) -> None:
    """Weights that neither vanish nor explode; no number depends on what they are."""
    for weight in module.parameters(recurse=False):
        weight.normal_(0, 0.02)


def _lengthen(teacher: Path, length: int = 77) -> None:
    """Let the text encoder read `length` pieces, which is what the script always passes; for both trainers."""
    weights = teacher / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    for name, weight in state.items():
        if name.endswith("position_embedding.weight"):
            state[name] = torch.cat([weight, weight[-1:].expand(length - len(weight), -1)]).contiguous()
    save_file(state, weights, metadata={"format": "pt"})
    for file, key in (
        (teacher / "text_encoder" / "config.json", "max_position_embeddings"),
        (teacher / "tokenizer" / "tokenizer_config.json", "model_max_length"),
    ):
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: length}, indent=2))


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    file.addfile(info, io.BytesIO(content))


def _timed(command: list[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    with _running(command) as process:
        process.wait()
    return time.perf_counter() - started


def _watched(command: list[str]) -> Cost:
    """Run a command to its end, looking at its memory every `LOOK` seconds."""
    most = anonymous = 0
    with _running(command) as process:
        while process.poll() is None:
            now = _memory(process.pid)
            most, anonymous = max(most, now["Pss"]), max(anonymous, now["Pss_Anon"])
            time.sleep(LOOK)
    return Cost(most, anonymous)


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """What it says is shown where it fails."""
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, stdout=said, stderr=said, text=True) as process:
            yield process
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{said.read()[-3000:]}")


def _memory(pid: int) -> Counter[str]:
    """Bytes that a process and its children hold, by kind; what they share is counted once."""
    held: Counter[str] = Counter()
    try:
        for each in (root := psutil.Process(pid), *root.children(recursive=True)):
            for line in Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()[1:]:
                kind, size, *_ = line.split()
                held[kind.removesuffix(":")] += 1024 * int(size)
    except (psutil.Error, OSError):
        return Counter()  # one of them has just ended
    return held


def _megabytes(cost: Cost, libraries: Cost) -> dict[str, float]:
    return {
        "peak_megabytes": round(cost.memory / 1e6),
        "peak_megabytes_beside_libraries": round((cost.memory - libraries.memory) / 1e6),
        "peak_megabytes_beside_libraries_in_no_file": round((cost.anonymous - libraries.anonymous) / 1e6),
    }


if __name__ == "__main__":
    typer.run(main)
