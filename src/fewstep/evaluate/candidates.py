"""What is compared: a model at each step count, its teacher, and the teacher under plain fast solvers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fewstep.core.samplers import SAMPLERS, one_call_solvers, samplers_of
from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.provenance import RECORD, describe
from fewstep.pipelines.request import Request

Role = Literal["model", "teacher", "solver", "also"]
MOST = 1_000  # steps of one candidate


@dataclass(frozen=True)
class ModelSpec:
    """What is loaded: a model by its name, with adapters on top ("model+style.safetensors:0.8+lcm-lora"), and how it is
    sampled where that is not its own way ("model@tcd").
    """

    name: str
    loras: tuple[str, ...] = ()
    sampler: str | None = None

    @classmethod
    def of(cls, text: str) -> ModelSpec:
        start, at, sampler = text.rpartition("@")
        whole = start if at and sampler in SAMPLERS else text
        name, *loras = whole.split("+")
        if not name or not all(loras):
            raise InvalidRequest(
                f"{text[:60]!r} names no model; write MODEL, or MODEL+LORA:WEIGHT for one with adapters"
            )
        return cls(name, tuple(loras), None if whole == text else sampler)

    def __str__(self) -> str:
        return "+".join((self.name, *self.loras)) + (f"@{self.sampler}" if self.sampler else "")


@dataclass(frozen=True)
class Candidate:
    """One way to sample. `line` names those that differ in their steps alone: a curve of the report."""

    spec: ModelSpec
    role: Role
    line: str
    sampler: str
    steps: int
    guidance_scale: float | None = None
    timesteps: tuple[float, ...] | None = None

    @property
    def label(self) -> str:
        at = " at its own times" if self.timesteps else ""
        return f"{self.line}, {self.steps} step{'s' if self.steps > 1 else ''}{at}"

    def request(self, prompts: Sequence[str], seeds: Sequence[int]) -> Request:
        return Request(
            tuple(prompts),
            tuple(seeds),
            steps=None if self.timesteps else self.steps,
            timesteps=self.timesteps,
            sampler=self.sampler,
            guidance_scale=self.guidance_scale,
        )

    def plan(self, model: LatentModel, prompts: Sequence[str], seeds: Sequence[int], batch_size: int | None) -> Plan:
        """Raises `InvalidRequest`, with the candidate's name, for what its model cannot do."""
        try:
            return complete(self.request(prompts, seeds), model, batch_size)
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.label}: {error}") from error

    def key(self, model: LatentModel, *salt: object) -> str:
        """Tells apart all that would give other pictures: what `salt` names, weights, sampler, times, guidance."""
        plan = self.plan(model, ("-",), (0,), 1)
        record = json.loads(describe(model, plan, 0)[RECORD])
        usual = {"version": record["version"], "backend": record["backend"]}
        usual |= {"precision": model.precisions[0], "decoder": model.decoders[0]}  # older keys say nothing of them
        said = {name: value for name, value in record.items() if value is not None and value != usual.get(name)}
        facts = [said, plan.timesteps.tolist(), str(model.dtype), model.device.type, *map(str, salt)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def line_up(
    model: ModelSpec,
    teacher: ModelSpec | None,
    also: Sequence[ModelSpec],
    steps: Sequence[int],
    *,
    teacher_steps: int | None = None,
    guidance_scale: float | None = None,
    solvers: Sequence[str] = one_call_solvers(),
    load: Callable[[ModelSpec], LatentModel],
) -> list[Candidate]:
    """All candidates, the teacher at its full length first: the others are measured against its pictures."""
    found: list[Candidate] = []
    if teacher is not None:
        slow = load(teacher)
        if slow.profile.kind == "lcm":
            raise InvalidRequest(
                f"the teacher {teacher} is itself a consistency model; give the model it was made from"
            )
        sampler, full = teacher.sampler or samplers_of(slow.profile)[0], teacher_steps or slow.profile.steps
        found.append(Candidate(teacher, "teacher", f"{slow.name}, {sampler}", sampler, full, guidance_scale))
    found += _at_each(model, "model", load(model), None, steps, guidance_scale)
    if teacher is not None:
        known = samplers_of(load(teacher).profile)
        for solver in dict.fromkeys(solver if solver in known else known[0] for solver in solvers):  # a flow's: Euler's
            found += _at_each(teacher, "solver", load(teacher), solver, steps, guidance_scale)
    for spec in also:
        found += _at_each(spec, "also", load(spec), None, steps, guidance_scale)
    unique: dict[tuple[ModelSpec, str, int], Candidate] = {}
    for candidate in found:
        unique.setdefault((candidate.spec, candidate.sampler, candidate.steps), candidate)
    return list(unique.values())


def _at_each(
    spec: ModelSpec, role: Role, model: LatentModel, sampler: str | None, steps: Sequence[int], guidance: float | None
) -> Iterator[Candidate]:
    sampler = sampler or spec.sampler or samplers_of(model.profile)[0]
    name = "+".join((model.name, *(lora.rpartition("/")[2] for lora in spec.loras)))
    line = name if sampler == "lcm" else f"{name}, {sampler}"
    for count in steps:
        yield Candidate(spec, role, line, sampler, count, guidance)


def check_steps(steps: Sequence[int]) -> None:
    """Raises `InvalidRequest` for counts that are none, too many, or there twice."""
    if not steps or any(not 1 <= count <= MOST for count in steps) or len(set(steps)) < len(steps):
        raise InvalidRequest(f"the step counts are {list(steps)}; give different whole numbers from 1: 1,2,4,8")


def check_comparable(models: Sequence[LatentModel]) -> None:
    """Raises `InvalidRequest` where the same seed would not mean the same noise."""
    first = models[0]
    for other in models[1:]:
        ours, theirs = (traits.latent_shape(*traits.default_size) for traits in (first.traits, other.traits))
        if ours != theirs or first.traits.default_size != other.traits.default_size:
            raise InvalidRequest(
                f"{first.name} paints {_size(first)} from latents of {ours[0]} x {ours[1]} x {ours[2]}, and "
                f"{other.name} {_size(other)} from {theirs[0]} x {theirs[1]} x {theirs[2]}: the same noise cannot be "
                "given to both, so they cannot be compared"
            )


def _size(model: LatentModel) -> str:
    height, width = model.traits.default_size
    return f"{width} x {height} pixels"
