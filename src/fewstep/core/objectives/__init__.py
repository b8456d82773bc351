"""The objectives, by name: those of the files in this folder. A new one is a new file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from fewstep.core.objectives.base import Objective
from fewstep.core.objectives.guided import Distillation
from fewstep.core.settings import Value, settings


def objectives() -> Mapping[str, type[Objective]]:
    """All of them: the classes with a name of their own."""
    return _in(tuple(__path__))


@cache
def _in(folders: tuple[str, ...]) -> Mapping[str, type[Objective]]:
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(folders)]
    classes = [(module, each) for module in modules for each in vars(module).values() if isinstance(each, type)]
    return {vars(each)["name"]: each for module, each in classes if _is_of(each, module)}


def _is_of(each: type, module: ModuleType) -> bool:
    return each.__module__ == module.__name__ and isinstance(vars(each).get("name"), str)


def distillations() -> list[type[Distillation]]:
    return [each for each in objectives().values() if issubclass(each, Distillation)]


def targets() -> dict[str, type[Distillation]]:
    """The values of `--target`, and for each an objective that it may mean."""
    found: dict[str, type[Distillation]] = {}
    for each in sorted(distillations(), key=lambda each: each.cost):
        found |= {target: each for target in each.targets if target not in found}
    return found


def distillation(target: str, phases: int, trajectory: bool) -> type[Distillation]:
    """The objective that these options mean. Raises ValueError, in words, where there is none."""
    if target not in targets():
        raise ValueError(f"target={target!r} is unknown; use {', '.join(targets())}")
    if phases < 1:
        raise ValueError(f"phases={phases} must be at least 1")
    found = next(each for each in distillations() if each.fits(target, phases, trajectory))
    if trajectory and not found.trajectory:
        raise ValueError(found.refuses.get("trajectory", f"target={target!r} learns no trajectory: leave it out"))
    return found


def with_options(objective: Distillation, given: Mapping[str, Value]) -> Distillation:
    """The objective with other settings; another one, where `target`, `phases` and `trajectory` mean another.

    Raises ValueError, in words, for a setting that it has not, or a value that cannot work.
    """
    values = {name: getattr(objective, name) for name, _ in settings(objective)}
    asked: dict[str, Any] = {"target": next(iter(objective.targets)), "phases": objective.num_phases}
    asked |= {"trajectory": objective.trajectory} | values | dict(given)
    target, phases, trajectory = asked["target"], asked["phases"], asked["trajectory"]
    kind = distillation(target, phases, trajectory)
    names = [name for name, _ in settings(kind)]
    meant = {"target", "trajectory"} | ({"phases"} if phases == 1 else set())
    for name in given:
        if name not in {*names, *meant}:
            unknown = f"{name} is no setting of target={target!r}, which has {', '.join(names)}"
            raise ValueError(kind.refuses.get(name, unknown))
    return of_kind(kind, asked)


def of_kind(kind: type[Distillation], values: Mapping[str, Value]) -> Distillation:
    """An objective with those of the values that are settings of its kind."""
    known: dict[str, Any] = {name: values[name] for name, _ in settings(kind) if name in values}
    return kind(**known)
