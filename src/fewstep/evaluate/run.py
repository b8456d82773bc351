"""`evaluate`: from a configuration to `results.json`, `report.html` and `card.md` in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch

import fewstep
from fewstep.errors import InvalidRequest
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.candidates import Candidate
from fewstep.evaluate.card import card_section
from fewstep.evaluate.config import EvaluateConfig, check_output
from fewstep.evaluate.features import FeatureNetwork, load_features
from fewstep.evaluate.gallery import Gallery
from fewstep.evaluate.measures import measures_of, warnings_for
from fewstep.evaluate.metrics.base import Seen, Yardstick
from fewstep.evaluate.moments import Moments
from fewstep.evaluate.prompts import read_prompts
from fewstep.evaluate.recommend import recommend
from fewstep.evaluate.reference import Reference, check_differ, read_reference
from fewstep.evaluate.report import write_report
from fewstep.evaluate.results import Conditions, Results, Row
from fewstep.evaluate.search import Found, search_timesteps
from fewstep.evaluate.speed import Speed
from fewstep.evaluate.sweep import Progress, Sweep, Team, check_not_blank
from fewstep.evaluate.two_part_score import (
    score_two_parts,
    two_part_ceiling,
    two_part_identity,
    two_parts_found,
)
from fewstep.files import locked, replacing

WORK = "work"


def _silent(what: str, done: int, total: int) -> None:
    """One process tells of the progress of all."""


def evaluate(
    config: EvaluateConfig, output: Path, *, command: str = "", on_progress: Progress = _silent
) -> Results | None:
    """Generate, look, measure and report into the folder `output`; the same call again goes on where it was stopped.

    Under `accelerate launch` the processes share the work; all but the first return None.
    Raises `InvalidRequest` and `ModelNotFound` before any picture is generated, where something cannot work.
    """
    check_output(output)
    team = Team.of_environment()
    with locked(output, "the evaluation") if team.rank == 0 else nullcontext():
        return _evaluate(config, output, team, command, on_progress if team.rank == 0 else _silent)


def _evaluate(config: EvaluateConfig, output: Path, team: Team, command: str, on_progress: Progress) -> Results | None:
    work = output / WORK
    work.mkdir(exist_ok=True)
    sweep = Sweep(config, read_prompts(config.prompts), work, team)
    model = sweep.load(sweep.model)
    network = load_features(config.feature_network, model.device, config.clip)
    reference = _reference(config, network, model.traits.default_size, work, on_progress) if team.rank == 0 else None
    team.wait()
    sweep.generate(network, on_progress)
    if config.asks_two_parts:
        score_two_parts(sweep, on_progress)
    speeds = sweep.speeds(on_progress)
    if team.rank != 0:
        return None
    results = _measured(sweep, network, reference, speeds, command, on_progress)
    results = replace(results, recommendation=asdict(recommend(results)) | {"headline": recommend(results).headline})
    on_progress("writing the report", 0, 1)
    gallery = Gallery.of(sweep, network, reference, results)
    results.write(output / "results.json")
    with replacing(output / "card.md") as file:
        file.write_text(card_section(results), encoding="utf-8")
    write_report(results, gallery, output / "report.html")
    on_progress("writing the report", 1, 1)
    return results


def search(config: EvaluateConfig, output: Path, *, on_progress: Progress = _silent) -> list[Found]:
    """Better times for the model's step counts, by the Fréchet distance to the reference, or to the teacher's pictures.

    What is generated is kept in the folder `output`, and the findings in its `timesteps.json`.
    """
    check_output(output)
    with locked(output, "the evaluation"):
        return _search(config, output, on_progress)


def _search(config: EvaluateConfig, output: Path, on_progress: Progress) -> list[Found]:
    work = output / WORK
    work.mkdir(exist_ok=True)
    sweep = Sweep(config, read_prompts(config.prompts), work, Team.of_environment())
    model = sweep.load(sweep.model)
    network = load_features(config.feature_network, model.device, config.clip)
    reference = _reference(config, network, model.traits.default_size, work, on_progress)
    teacher = next((candidate for candidate in sweep.candidates if candidate.role == "teacher"), None)
    if reference is not None:
        target = Moments.of(reference.features)
    elif teacher is not None:
        sweep.generate(network, on_progress, [teacher])
        target = Moments.of(sweep.shards(teacher, network).read(config.num_images).features)
    else:
        raise InvalidRequest("a search needs something to come near to: give a --reference or a --teacher")
    found = search_timesteps(sweep, network, target, on_progress)
    with replacing(output / "timesteps.json") as file:
        rows = [asdict(each) | {"better": each.better, "p": each.gain.p} for each in found]
        file.write_text(json.dumps(rows, indent=1) + "\n")
    return found


def _reference(
    config: EvaluateConfig, network: FeatureNetwork, size: tuple[int, int], work: Path, on_progress: Progress
) -> Reference | None:
    if config.reference_source is None:
        return None

    def looked(done: int, total: int) -> None:
        on_progress("looking at the reference", done, total)

    return read_reference(config.reference_source, network, size, work / "reference.safetensors", looked)


def _measured(
    sweep: Sweep,
    network: FeatureNetwork,
    reference: Reference | None,
    speeds: list[Speed],
    command: str,
    on_progress: Progress,
) -> Results:
    config = sweep.config
    teacher = next((candidate for candidate in sweep.candidates if candidate.role == "teacher"), None)
    yard = Yardstick(
        reference=None if reference is None else reference.features,
        teacher=None if teacher is None else sweep.shards(teacher, network).read(config.num_images),
        words=network.read(sweep.prompts.texts),
        per_prompt=config.per_prompt,
        num_draws=config.draws,
    )
    rows: list[Row] = []
    for index, (candidate, pictures) in enumerate(sweep.features(network)):
        on_progress("measuring", index, len(sweep.candidates))
        check_not_blank(pictures, candidate)
        check_differ(pictures.features, candidate.label)
        found = two_parts_found(sweep, candidate) if config.asks_two_parts else None
        measures = measures_of(Seen(pictures, yard, is_teacher=candidate is teacher, two_parts=found))
        rows.append(_row(sweep, candidate, speeds[index], measures))
    on_progress("measuring", len(sweep.candidates), len(sweep.candidates))
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    return Results(
        model=rows[1 if teacher is not None else 0].model,
        command=command,
        version=fewstep.__version__,
        conditions=_conditions(sweep, network, pictures.features.shape[1], reference, teacher),
        rows=tuple(rows),
        warnings=tuple(warnings_for(config.num_images, pictures.features.shape[1], config.per_prompt, names)),
        ceiling=two_part_ceiling(config.draws) if config.asks_two_parts else {},
    )


def _row(sweep: Sweep, candidate: Candidate, speed: Speed, measures: Mapping[str, Measure]) -> Row:
    model = sweep.load(candidate.spec)
    plan = candidate.plan(model, ("-",), (0,), 1)
    return Row(
        label=candidate.label,
        line=candidate.line,
        role=candidate.role,
        model=str(candidate.spec),
        model_hash=model.origin.hash,
        sampler=candidate.sampler,
        steps=candidate.steps,
        guidance_scale=plan.guidance_scale,
        timesteps=tuple(plan.timesteps.tolist()),
        measures=measures,
        speed=speed,
    )


def _conditions(
    sweep: Sweep,
    network: FeatureNetwork,
    num_features: int,
    reference: Reference | None,
    teacher: Candidate | None,
) -> Conditions:
    model, config = sweep.load(sweep.model), sweep.config
    height, width = model.traits.default_size
    return Conditions(
        features=network.name,
        features_identity=network.identity,
        num_features=num_features,
        reference=None if reference is None else reference.source,
        reference_identity=None if reference is None else reference.identity,
        reference_size=0 if reference is None else len(reference.features),
        teacher=None if teacher is None else teacher.label,
        teacher_hash=None if teacher is None else sweep.load(teacher.spec).origin.hash,
        prompts=sweep.prompts.source,
        prompts_identity=sweep.prompts.identity,
        num_images=config.num_images,
        per_prompt=config.per_prompt,
        seed=config.seed,
        draws=config.draws,
        height=height,
        width=width,
        device=device_name(model.device),
        threads=torch.get_num_threads(),
        dtype=str(model.dtype).removeprefix("torch."),
        two_part_identity=two_part_identity() if config.asks_two_parts else None,
    )


def device_name(device: torch.device) -> str:
    """For people: the GPU's product, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else str(device)


def _processor() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
