"""Samplers, one file each: `SAMPLERS` by name, and `SOLVERS`, the steps of those that follow an ODE.

A file of this folder with a line `SAMPLER = Class(name="…", …)` is a sampler; it is listed nowhere else. The names are
read from these lines without running them, so that the help of a command can list them without importing torch. A
sampler is imported when it is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from fewstep.core.profile import SamplingProfile
    from fewstep.core.samplers.base import Sampler
    from fewstep.core.samplers.ode import ODESampler, Solver
    from fewstep.core.schedule import Schedule

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """What a file states of its sampler; the fields are those of `base.Sampler` and `ode.ODESampler`."""

    module: str
    name: str
    rank: int
    calls: int
    follows_ode: bool


def entries() -> Mapping[str, Entry]:
    """All samplers that are in the folder, by name, in the order in which lists show them."""
    return _entries(tuple(__path__))


@cache
def _entries(folders: tuple[str, ...]) -> Mapping[str, Entry]:
    files = [path for folder in folders for path in Path(folder).glob("*.py")]
    found = [entry for path in files if (entry := _stated_in(path)) is not None]
    return {entry.name: entry for entry in sorted(found, key=lambda entry: (entry.rank, entry.name))}


def _stated_in(path: Path) -> Entry | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name("SAMPLER")], value=ast.Call(keywords=keywords)):
                stated = {word.arg: ast.unparse(word.value) for word in keywords}
                return Entry(
                    path.stem,
                    name=str(ast.literal_eval(stated["name"])),
                    rank=int(stated.get("rank", 100)),
                    calls=int(stated.get("calls", 1)),
                    follows_ode="solver" in stated,
                )
    return None


class _ByName(Mapping[str, T], Generic[T]):
    """A value for every entry that is `chosen`; made, with the import of its file, when it is asked for."""

    def __init__(self, chosen: Callable[[Entry], bool], value: Callable[[Entry], T]) -> None:
        self.chosen, self.value = chosen, value

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self.value(entries()[name])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in entries() and self.chosen(entries()[name])

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in entries().items() if self.chosen(entry))

    def __len__(self) -> int:
        return sum(map(self.chosen, entries().values()))


def _sampler(entry: Entry) -> Sampler:
    return cast("Sampler", import_module(f"{__name__}.{entry.module}").SAMPLER)


def _solver(entry: Entry) -> Callable[[Schedule], Solver]:
    return cast("ODESampler", _sampler(entry)).solver


SAMPLERS: Mapping[str, Sampler] = _ByName(lambda entry: True, _sampler)
SOLVERS: Mapping[str, Callable[[Schedule], Solver]] = _ByName(lambda entry: entry.follows_ode, _solver)


def one_call_solvers() -> tuple[str, ...]:
    """The names of those solvers that ask the network once a step."""
    return tuple(sorted(name for name in SOLVERS if entries()[name].calls == 1))


def few_step_schedulers() -> set[str]:
    """diffusers' classes whose presence in a model's folder says that it is a few-step model."""
    return {sampler.scheduler for sampler in SAMPLERS.values() if sampler.few_step}


def checked(profile: SamplingProfile) -> SamplingProfile:
    """The profile; raises ValueError where its own sampler is not for such a model."""
    if profile.sampler not in (usable := samplers_of(profile)):
        raise ValueError(
            f"the sampler of a model of kind {profile.kind!r} is {profile.sampler!r}; it must be one of "
            f"{', '.join(usable)}"
        )
    return profile


def few_step_sampler(profile: SamplingProfile, *, along: bool) -> str:
    """The first sampler for a few-step model that was distilled from one of this profile.

    along  whether it learnt trajectories (`Sampler.along`)
    """
    distilled = profile.of_kind("lcm")
    return next(
        name
        for name, sampler in SAMPLERS.items()
        if sampler.few_step and sampler.along == along and sampler.accepts(distilled)
    )


def samplers_of(profile: SamplingProfile) -> tuple[str, ...]:
    """The names of those that accept a model with this profile, its own first."""
    names = [name for name, sampler in SAMPLERS.items() if sampler.accepts(profile)]
    return tuple(sorted(names, key=lambda name: name != profile.sampler))
