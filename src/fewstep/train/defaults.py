"""What the commands begin with: a config for each method, before options or a recipe change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fewstep.core.objectives import distillation, distillations, of_kind, with_options
from fewstep.core.objectives.base import Method, Objective
from fewstep.core.objectives.diffusion import Diffusion
from fewstep.core.objectives.fine_tuning import FineTuning
from fewstep.core.objectives.guided import Distillation, Guided
from fewstep.core.settings import Record, Value
from fewstep.data.config import DataConfig
from fewstep.errors import InvalidConfig
from fewstep.train.config import STYLE_TARGETS, FitConfig, LoraConfig, RunConfig

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

    target      of a distillation, as `--target` names it (`core.objectives`); some bring sizes of their own along
    phases, trajectory  where one of them is given the other is not taken for granted: phases=1 is LCM's own way, and
                        trajectory=False alone means four phases

    Raises `InvalidConfig` for what no objective is.
    """
    adapter = None
    if lora:
        adapter = LoraConfig() if method == "distill" else LoraConfig(rank=16, targets=STYLE_TARGETS)
    objective: Objective
    if method == "distill":
        objective = _distillation(target, phases, trajectory)
    else:
        objective = FineTuning() if method == "finetune" else Diffusion()
    cost = objective.cost if isinstance(objective, Distillation) else 1
    fit = FitConfig(
        pictures=PICTURES[method, lora] // cost,
        batch_size=16 if cost == 1 else 4,
        optimizer="adamw",
        lr=RATES[method, lora],
        warmup=500 // cost,
        cooldown=0.3,
        ema_halflife=2_000 // cost,
        explosion=1_000.0,
    )
    return RunConfig(model=model, data=DataConfig(source=source), fit=fit, objective=objective, lora=adapter)


def _distillation(target: str | None, phases: int | None, trajectory: bool | None) -> Distillation:
    """What a student learns, as it is recommended, where little or nothing is said of it."""
    target = "student" if target is None else target
    learns = any(each.trajectory for each in distillations() if target in each.targets)
    if trajectory is None:
        trajectory = learns and phases is None
    given: dict[str, Value] = {name: value for name, value in (("target", target), ("phases", phases)) if value}
    with in_words():
        if phases is None:
            phases = 4 if learns and not trajectory else 1
        kind = distillation(target, phases, trajectory)
        return of_kind(kind, {**kind.recommended, **given})


def changed(config: RunConfig, values: Mapping[str, Value]) -> RunConfig:
    """`config` with other values under dotted names ("fit.lr"); None leaves a value as it is.

    Where `objective.target`, `objective.phases` and `objective.trajectory` mean another objective, it is that one, with
    the settings that both have.

    Raises `InvalidConfig` for a setting that is not there.
    """
    whole: dict[str, Any] = {}
    groups: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        group, _, field = name.rpartition(".")
        if value is not None and group:
            groups.setdefault(group, {})[field] = value
        elif value is not None:
            whole[field] = value
    for group, fields in groups.items():
        record = getattr(config, group)
        if record is None:
            raise InvalidConfig(f"{next(iter(fields))} is a LoRA's setting, and none is trained here: add --lora")
        with in_words():
            whole[group] = _with(record, fields)
    return dataclasses.replace(config, **whole)


def _with(record: Record, values: Mapping[str, Value]) -> Record:
    if isinstance(record, Distillation):
        return with_options(record, values)
    known = [field.name for field in dataclasses.fields(record)]
    for name in values:
        if name not in known:
            refused = record.refuses.get(name) if isinstance(record, Guided) else None
            raise InvalidConfig(refused or f"{name} is no setting here; there are {', '.join(known)}")
    return dataclasses.replace(record, **values)


@contextmanager
def in_words() -> Iterator[None]:
    """What an objective's settings refuse, as the error that the command line prints in one line."""
    try:
        yield
    except InvalidConfig:
        raise
    except ValueError as error:
        raise InvalidConfig(str(error)) from error
