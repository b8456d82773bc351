"""`rehearse`: everything about a run that can be known and checked before hours are spent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fewstep.core.objectives.guided import Distillation
from fewstep.data.cache_folder import Manifest, is_cache
from fewstep.data.caching import check_encoders, survey
from fewstep.files import Json, holds_nothing
from fewstep.models.memory import free_memory
from fewstep.runtime.machine import matrix_speed
from fewstep.train.config import FitConfig, RunConfig
from fewstep.train.folder import CONFIG
from fewstep.train.loop import batches_of
from fewstep.train.method import training_of
from fewstep.train.processes import Processes
from fewstep.train.run import load_for_training
from fewstep.train.written import as_json, differences, flat

QUICKER = 1.3  # times as fast, for which another precision is worth a word
SLOTS = {"adamw": 8.0, "adamw8bit": 2.0, "muon": 4.0}  # bytes of the optimiser for each weight in training


@dataclass(frozen=True)
class Rehearsal:
    """config      as it will run, by dotted names
    parameters  (in training, in all)
    memory      bytes, by what they hold; activations come on top, and grow with the pictures at once
    free        bytes that the device has, and the disk
    batch       how a step's pictures are divided
    pictures, captions  of the data
    advice      what a person should know before the start
    """

    config: Mapping[str, Json]
    parameters: tuple[int, int]
    memory: Mapping[str, int]
    free: tuple[int, int]
    batch: Mapping[str, int]
    pictures: int
    captions: tuple[str, ...]
    advice: tuple[str, ...]


def rehearse(config: RunConfig, folder: Path) -> Rehearsal:
    """Load the model, look through the data, and count; nothing is written. Raises what `train` would raise."""
    model = load_for_training(config)
    pictures, captions = survey(config.data)
    given = Path(config.data.source).expanduser()
    if is_cache(given):
        check_encoders(Manifest.read(given), model, config.data, given)
    training = training_of(config, model, config.name or folder.resolve().name)
    networks = list(dict.fromkeys(each for one in (model, training.student) for stage in one.stages for each in stage))
    total = sum(weight.numel() for network in networks for weight in network.parameters())
    held = [*networks, *([model.network.module] if training.keeps_copy else [])]
    memory = _memory(training.parameters, held, config.fit, averages=training.target is not None)
    home = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    free = free_memory(model.device), shutil.disk_usage(home).free
    checkpoint = 2 * training.parameters * int(8 + SLOTS[config.fit.optimizer])
    return Rehearsal(
        config=flat(as_json(config)),
        parameters=(training.parameters, total),
        memory=memory,
        free=free,
        batch=dict(batches_of(config.fit, Processes())),
        pictures=pictures,
        captions=tuple(captions),
        advice=tuple(_advice(config, folder, model.device, memory, free, checkpoint, pictures, captions)),
    )


def _memory(trained: int, networks: list[nn.Module], fit: FitConfig, *, averages: bool) -> dict[str, int]:
    weights = sum(weight.numel() * weight.element_size() for network in networks for weight in network.parameters())
    return {
        "networks": weights,
        "gradients": 4 * trained,
        "optimiser": int(SLOTS[fit.optimizer] * trained),
        "averages": (8 if averages else 4) * trained,
    }


def _advice(
    config: RunConfig,
    folder: Path,
    device: torch.device,
    memory: Mapping[str, int],
    free: tuple[int, int],
    checkpoint: int,
    pictures: int,
    captions: list[str],
) -> list[str]:
    advice = []
    speeds = [matrix_speed(device, dtype, size=512).flops for dtype in (torch.float32, torch.bfloat16)]
    if config.fit.precision == "float32" and speeds[1] > QUICKER * speeds[0]:
        advice.append(
            f"{device.type} multiplies matrices {speeds[1] / speeds[0]:.1f} times as fast in bfloat16: "
            "--precision bfloat16 trains faster, in less memory"
        )
    if sum(memory.values()) > free[0]:
        advice.append("the weights alone need more memory than is free: train a LoRA, or in bfloat16")
    if checkpoint > free[1]:
        advice.append(f"two checkpoints need {checkpoint / 1e9:.1f} GB, and the disk has {free[1] / 1e9:.1f} GB free")
    if not any(captions):
        advice.append("no picture has a caption: put a .txt beside each, or name the files by what they show")
    if pictures * 200 < config.fit.pictures:
        advice.append(
            f"every picture will be seen {config.fit.pictures // pictures} times: watch the sheets, and stop early"
        )
    if isinstance(config.objective, Distillation):
        advice += config.objective.advice
    if (folder / CONFIG).is_file():
        differing = differences(json.loads((folder / CONFIG).read_text()), as_json(config))
        advice.append(
            f"{folder} has another run: {', '.join(differing)} differ"
            if differing
            else f"{folder} has this run: it goes on"
        )
    elif folder.exists() and not holds_nothing(folder):
        advice.append(f"{folder} is not empty and has no run in it: choose a new folder")
    return advice
