"""LCM-LoRA training against the public script: pictures per second and peak memory, on the same teacher and pictures.

    git clone https://github.com/huggingface/diffusers
    python -m benchmarks.distill diffusers/examples/consistency_distillation/train_lcm_distill_lora_sd_wds.py

The script comes from diffusers or, as it was first published, from luosiallen/latent-consistency-model; it is run as it
is, in a process of its own. Both train a LoRA of the same rank on the same layers, with batches of the same size, by
AdamW and the Huber loss, from the same pictures. Each runs twice, for a few steps and for more, so that what happens
once (imports, loading, encoding) drops out of the speed; runs of the two alternate, and the best of each counts. Peak
memory is that of all processes of a run together. Writes benchmarks/results/distill.json.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file

import fewstep
from fewstep.models.locating import locate
from fewstep.models.saving import save
from fewstep.train.caching import build_cache
from fewstep.train.config import DataConfig
from recipes.emoji import art

RESULT = Path(__file__).parent / "results" / "distill.json"


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds, and the most bytes that its processes held together."""

    seconds: float
    memory: int


def main(
    script: Annotated[Path, typer.Argument(help="train_lcm_distill_lora_sd_wds.py in a checkout.")],
    folder: Annotated[Path, typer.Option(help="Where the recipe built the art.")] = Path("build/starter"),
    work: Annotated[Path, typer.Option(help="For the runs; kept.")] = Path("build/benchmark-distill"),
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    rank: Annotated[int, typer.Option(help="Of the LoRA.")] = 64,
    short: Annotated[int, typer.Option(help="Steps of the short runs.")] = 4,
    long: Annotated[int, typer.Option(help="Steps of the long runs.")] = 24,
    rounds: Annotated[int, typer.Option(help="Repetitions.")] = 2,
) -> None:
    """Prepare the teacher and the pictures, run both, and write the comparison."""
    teacher, tar, cache = _prepare(folder, work)
    runs: dict[str, dict[int, list[Cost]]] = {name: {short: [], long: []} for name in ("script", "fewstep")}
    for index in range(rounds):
        for steps in (short, long):
            runs["script"][steps].append(_measure(_their_command(script, teacher, tar, work, batch_size, rank, steps)))
            output = work / f"run-{os.getpid()}-{index}-{steps}"
            runs["fewstep"][steps].append(_measure(_our_command(teacher, cache, output, batch_size, rank, steps)))
            typer.echo(f"round {index}, {steps} steps: " + str({name: runs[name][steps][-1] for name in runs}))
    rows = {name: _summary(costs, short, long, batch_size) for name, costs in runs.items()}
    result = {
        "command": "python -m benchmarks.distill SCRIPT",
        "script": str(script.name),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "batch_size": batch_size,
        "rank": rank,
        "runs": rows,
        "throughput_ratio": round(rows["fewstep"]["pictures_per_second"] / rows["script"]["pictures_per_second"], 2),
        "memory_ratio": round(rows["fewstep"]["peak_megabytes"] / rows["script"]["peak_megabytes"], 2),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    typer.echo(json.dumps(result, indent=2))


def _prepare(folder: Path, work: Path, count: int = 256) -> tuple[Path, Path, Path]:
    """The teacher as one folder, pictures with captions in a tar, and the same in a cache."""
    work.mkdir(parents=True, exist_ok=True)
    teacher, tar, cache = work / "teacher", work / "pictures.tar", work / "cache"
    if not teacher.is_dir():
        model = fewstep.load("starter-teacher", device="cpu", dtype="float32")
        save(model, teacher, locate("starter-teacher"), dtype="float32")
        _lengthen(teacher)
    if not tar.is_file():
        pictures, pixels = art.load(folder)
        with tarfile.open(tar, "w") as file:
            for index, (picture, values) in enumerate(zip(pictures[:count], pixels, strict=False)):
                buffer = io.BytesIO()
                Image.fromarray(values).save(buffer, "PNG")
                _add(file, f"{index:05d}.png", buffer.getvalue())
                _add(file, f"{index:05d}.txt", next(picture.captions()).encode())
    if not cache.is_dir():
        build_cache(fewstep.load(teacher, device="cpu"), DataConfig(source=str(tar)), cache)
    return teacher, tar, cache


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


def _their_command(
    script: Path, teacher: Path, tar: Path, work: Path, batch_size: int, rank: int, steps: int
) -> list[str]:
    options = {
        "pretrained_teacher_model": teacher,
        "output_dir": work / "script",
        "train_shards_path_or_url": tar,
        "resolution": 128,
        "max_train_samples": 100_000,
        "dataloader_num_workers": 1,
        "train_batch_size": batch_size,
        "max_train_steps": steps,
        "lora_rank": rank,
        "learning_rate": 1e-4,
        "loss_type": "huber",
        "lr_warmup_steps": 1,
        "validation_steps": 10**9,
        "checkpointing_steps": 10**9,
        "seed": 0,
    }
    return [sys.executable, str(script), *(f"--{name}={value}" for name, value in options.items())]


def _our_command(teacher: Path, cache: Path, output: Path, batch_size: int, rank: int, steps: int) -> list[str]:
    options = {
        "teacher": teacher,
        "data": cache,
        "output": output,
        "batch-size": batch_size,
        "pictures": batch_size * steps,
        "rank": rank,
        "lr": 1e-4,
        "guidance": "6:16",
        "every": 10**9,
        "prompt": "a cat",
        "steps": 1,
        "device": "cpu",
    }
    command = [sys.executable, "-m", "fewstep", "distill", "--lora"]
    return [*command, *(f"--{name}={value}" for name, value in options.items())]


def _measure(command: list[str]) -> Cost:
    """Run a command to its end, looking at its memory fifty times a second."""
    started, most = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            most = max(most, _memory(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{said.read()[-3000:]}")
    return Cost(seconds, most)


def _memory(pid: int) -> int:
    """Bytes that a process and its children hold for themselves; what they share is counted once."""
    try:
        root = psutil.Process(pid)
        return sum(each.memory_full_info().pss for each in (root, *root.children(recursive=True)))
    except psutil.Error:
        return 0


def _summary(costs: dict[int, list[Cost]], short: int, long: int, batch_size: int) -> dict[str, float]:
    seconds = min(cost.seconds for cost in costs[long]) - min(cost.seconds for cost in costs[short])
    return {
        "pictures_per_second": round((long - short) * batch_size / seconds, 2),
        "peak_megabytes": round(max(cost.memory for cost in costs[long]) / 1e6),
        "seconds_for_everything": round(min(cost.seconds for cost in costs[long]), 1),
    }


if __name__ == "__main__":
    typer.run(main)
