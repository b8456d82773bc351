"""The score of two-part prompts, of every candidate that is no plain solver: generated, looked at, kept, measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.candidates import Candidate
from fewstep.evaluate.features import digest
from fewstep.evaluate.metrics import two_parts
from fewstep.evaluate.sweep import Progress, Sweep
from fewstep.evaluate.two_part import HEAD, REAL, Finder, real_pictures
from fewstep.evaluate.two_part_prompts import FILE, TwoPart, built_in
from fewstep.files import replacing
from fewstep.imaging.pixels import to_pixels
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.generate import generate_plan


def two_part_identity() -> str:
    """Of the prompts and of what looks for their parts."""
    return digest([FILE, HEAD, REAL])


def score_two_parts(sweep: Sweep, on_progress: Progress) -> None:
    """A picture of each prompt by each candidate, unless it is kept; the processes of a team share the candidates."""
    asked, finder = built_in(), Finder.load()
    for index, candidate in enumerate(_asked_of(sweep)):
        model = sweep.load(candidate.spec)
        file = _kept(sweep, candidate)
        if file.is_file() or index % sweep.team.size != sweep.team.rank:
            continue
        right: list[float] = []
        size = candidate.plan(model, ("-",), (0,), sweep.config.batch_size).batch_size
        for start in range(0, len(asked), size):
            on_progress(f"two parts: {candidate.label}", start, len(asked))
            some = asked[start : start + size]
            seeds = [sweep.config.seed + start + i for i in range(len(some))]
            right += finder.right(some, _pixels(candidate, model, some, seeds)).tolist()
        on_progress(f"two parts: {candidate.label}", len(asked), len(asked))
        with replacing(file) as partial:
            partial.write_text(json.dumps(right))
    sweep.team.wait()


def _pixels(candidate: Candidate, model: LatentModel, asked: Sequence[TwoPart], seeds: Sequence[int]) -> Tensor:
    plan = candidate.plan(model, [each.prompt for each in asked], seeds, len(asked))
    return torch.cat([to_pixels(image, *model.traits.default_size) for image in generate_plan(model, plan)])


def _asked_of(sweep: Sweep) -> list[Candidate]:
    return [candidate for candidate in sweep.candidates if candidate.role != "solver"]


def _kept(sweep: Sweep, candidate: Candidate) -> Path:
    key = candidate.key(sweep.load(candidate.spec), two_part_identity(), sweep.config.seed, sweep.config.batch_size)
    return sweep.folder / f"two-parts-{key}.json"


def two_parts_found(sweep: Sweep, candidate: Candidate) -> Tensor | None:
    """For each prompt, whether both parts were found; None of a plain solver, which is not asked."""
    if candidate not in _asked_of(sweep):
        return None
    return torch.tensor(json.loads(_kept(sweep, candidate).read_text())).double()


def two_part_ceiling(num_draws: int) -> dict[str, Measure]:
    """What real compositions of the same prompts reach."""
    asked = built_in()
    return two_parts.measures_of(Finder.load().right(asked, real_pictures(len(asked))), num_draws)
