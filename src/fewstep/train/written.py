"""A config as a run's folder keeps it, in JSON's types; those of before are read, too."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from fewstep.core.objectives import distillation, objectives
from fewstep.core.settings import Record, settings
from fewstep.data.config import DataConfig
from fewstep.files import Json
from fewstep.train.config import FitConfig, LoraConfig, RunConfig, WatchConfig

# What the same run may change when it goes on: how long, how it is watched, where it runs, and in how many parts.
CHANGEABLE = (
    "fit.pictures", "fit.minutes", "fit.checkpoint_minutes", "fit.accumulate", "fit.explosion", "watch", "device",
    "checkpointing", "name",
)  # fmt: skip

Written = dict[str, Json]


def as_json(config: RunConfig) -> Written:
    """The config in JSON's types, as it is read back; the objective with its name."""
    written: Written = json.loads(json.dumps(dataclasses.asdict(config) | {"objective": _objective(config)}))
    return written


def _objective(config: RunConfig) -> Written:
    objective = config.objective
    return {"name": objective.name} | {name: getattr(objective, name) for name, _ in settings(objective)}


def differences(there: Mapping[str, Json], wanted: Mapping[str, Json]) -> dict[str, tuple[Json, Json]]:
    """The settings that differ, and may not, under their dotted names; one that did not exist yet was as by default."""
    said, now = as_now(there), flat(wanted)
    default = flat(_complete(said))
    before = {name: default[name] for name in now if name in default} | flat(said)
    names = sorted({*before, *now}, key=lambda name: (name != "objective.name", name))  # says the most
    pairs = {name: (before.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not name.startswith(CHANGEABLE)}


def flat(values: Mapping[str, Json], prefix: str = "") -> Written:
    """Nested settings under dotted names."""
    rows: Written = {}
    for name, value in values.items():
        rows |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return rows


def _complete(values: Mapping[str, Json]) -> Written:
    """With the defaults of what is not said, in every record that is there."""
    records: dict[str, type[Record]] = {"data": DataConfig, "fit": FitConfig, "lora": LoraConfig, "watch": WatchConfig}
    match values:
        case {"objective": {"name": str(name)}} if name in objectives():
            records["objective"] = objectives()[name]
    found = _defaults(RunConfig) | dict(values)
    for name, record in records.items():
        if isinstance(said := found.get(name), Mapping):
            found[name] = _defaults(record) | dict(said)
    return found


def _defaults(record: type[Record]) -> Written:
    fields = [field for field in dataclasses.fields(record) if field.default is not dataclasses.MISSING]
    written: Written = json.loads(json.dumps({field.name: field.default for field in fields}))
    return written


# Before objectives were records, all settings of all of them were in one, `consistency`; these were its defaults.
_BEFORE: Mapping[str, Json] = {
    "original_inference_steps": 50, "k": None, "solver": "ddim", "substeps": 1, "w_range": None, "embed_w": None,
    "empty": 0.05, "metric": "huber", "boundary": "lcm", "timestep_scaling": 10.0, "target": "student",
    "target_decay": 0.95, "phases": 1, "trajectory": False, "ends": "uniform", "gamma": 0.0,
}  # fmt: skip
_LAWS = {"uniform": "uniform", "walks": "log_uniform"}


def as_now(values: Mapping[str, Json]) -> Written:
    """A written config of any time as one of now. Raises ValueError for one that means no objective."""
    before = values.get("consistency")
    if not isinstance(before, Mapping):
        return dict(values)
    rest = {name: value for name, value in values.items() if name not in ("method", "consistency")}
    said = {**_BEFORE, **before}
    said["t_m"] = _LAWS.get(str(said.pop("ends")), "uniform")
    name = {"finetune": "fine_tuning", "style": "diffusion"}.get(str(values.get("method", "distill")))
    if name is None:
        target, phases, trajectory = (said[each] for each in ("target", "phases", "trajectory"))
        if not (isinstance(target, str) and isinstance(phases, int) and isinstance(trajectory, bool)):
            raise ValueError(f"target={target!r}, phases={phases!r} and trajectory={trajectory!r} mean no objective")
        name = distillation(target, phases, trajectory).name
    known = {name for name, _ in settings(objectives()[name])}
    return rest | {"objective": {"name": name} | {key: value for key, value in said.items() if key in known}}
