"""What the commands begin with: a config for each method, before options or a recipe change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fewstep.data.config import DataConfig
from fewstep.errors import InvalidConfig
from fewstep.train.config import STYLE_TARGETS, ConsistencyConfig, FitConfig, LoraConfig, Method, RunConfig

PICTURES: dict[tuple[Method, bool], int] = {  # (method, LoRA)
    ("distill", False): 24_000,
    ("distill", True): 16_000,
    ("finetune", False): 8_000,
    ("finetune", True): 4_000,
    ("style", True): 4_000,
}
RATES: dict[tuple[Method, bool], float] = {
    ("distill", False): 1e-5,
    ("distill", True): 1e-4,
    ("finetune", False): 1e-5,
    ("finetune", True): 1e-4,
    ("style", True): 2e-4,
}
TRAJECTORY: dict[str, Any] = {"trajectory": True, "k": 100, "metric": "pseudo_huber", "ends": "walks"}
PATHS = 10  # pictures that one path of the teacher costs: 12 steps of 5 calls of the network, against 6


def default_config(
    method: Method,
    model: str,
    source: str,
    *,
    lora: bool,
    target: str | None = None,
    phases: int | None = None,
    trajectory: bool | None = None,
) -> RunConfig:
    """Adam, batches of 16, a short rise and a third of falling; sizes that suit a few thousand pictures. A distillation
    learns trajectories, which is what the ablations in docs/distillation.md speak for.

    target      of a distillation, as in `ConsistencyConfig`: `path` brings its solver, its sizes and four phases along
    phases, trajectory  where one of them is given the other is not taken for granted: phases=1 is LCM's own way, and
                        trajectory=False alone means four phases
    """
    adapter = None
    if lora:
        adapter = LoraConfig() if method == "distill" else LoraConfig(rank=16, targets=STYLE_TARGETS)
    share = PATHS if target == "path" else 1
    fit = FitConfig(
        pictures=PICTURES[method, lora] // share,
        batch_size=16 if share == 1 else 4,
        optimizer="adamw",
        lr=RATES[method, lora],
        warmup=500 // share,
        cooldown=0.3,
        ema_halflife=2_000 // share,
        explosion=1_000.0,
    )
    consistency = ConsistencyConfig(empty=0.1 if method == "style" else 0.05)
    if method == "distill":
        consistency = dataclasses.replace(consistency, **_walk(target, phases, trajectory))
    return RunConfig(
        method=method, model=model, data=DataConfig(source=source), fit=fit, consistency=consistency, lora=adapter
    )


def _walk(target: str | None, phases: int | None, trajectory: bool | None) -> dict[str, Any]:
    """What a student learns to reach, and how its target is found, where little or nothing is said of it."""
    if target == "path":
        return {"target": "path", "solver": "dpm++", "substeps": 3, "phases": phases or 4}
    if trajectory or (trajectory is None and phases is None):
        return TRAJECTORY | {"phases": phases or 1}
    return {"phases": phases or 4}


def changed(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with other values under dotted names ("fit.lr"); None leaves a value as it is.

    Raises `InvalidConfig` for a LoRA's setting where none is trained.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if value is not None:
            group, _, field = name.rpartition(".")
            groups.setdefault(group, {})[field] = value
    whole = groups.pop("", {})
    for group, fields in groups.items():
        record = getattr(config, group)
        if record is None:
            raise InvalidConfig(f"{next(iter(fields))} is a LoRA's setting, and none is trained here: add --lora")
        whole[group] = dataclasses.replace(record, **fields)
    return dataclasses.replace(config, **whole)
