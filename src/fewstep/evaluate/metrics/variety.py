"""How varied the pictures of one prompt are, and whether they are tamer than the teacher's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown, Yardstick, mean_pairwise_distance
from fewstep.evaluate.shards import PictureFeatures

TAME = 0.9  # of the teacher's variety


def vendi_score(features: Tensor) -> Tensor:
    """exp(entropy of the eigenvalues of K / n), K the cosine similarities (Friedman & Dieng 2022, 2210.02410): how many
    different pictures a set is worth, from 1 (all the same) to n (nothing in common).

    features: (..., n, D); returns (...).
    """
    x = torch.nn.functional.normalize(features.double(), dim=-1)
    values = torch.linalg.eigvalsh(x @ x.mT / x.shape[-2]).clamp(min=0)
    return torch.special.entr(values).sum(-1).exp()


def _by_prompt(of: Callable[[Tensor], Tensor], pictures: PictureFeatures, yard: Yardstick) -> Tensor:
    return of(pictures.features.view(-1, yard.per_prompt, pictures.features.shape[1]))


def _apart(pictures: PictureFeatures, yard: Yardstick) -> Tensor:
    return _by_prompt(mean_pairwise_distance, pictures, yard) / yard.unrelated


def _candidates_apart(seen: Seen) -> Tensor:
    return _apart(seen.pictures, seen.yard)


def _teachers_apart(yard: Yardstick) -> Tensor:
    assert yard.teacher is not None
    return _apart(yard.teacher, yard)


def _candidates_vendi(seen: Seen) -> Tensor:
    return _by_prompt(vendi_score, seen.pictures, seen.yard)


def _teachers_vendi(yard: Yardstick) -> Tensor:
    assert yard.teacher is not None
    return _by_prompt(vendi_score, yard.teacher, yard)


def _diversity(seen: Seen) -> Measure | None:
    if seen.yard.per_prompt < 2 or not seen.yard.has_unit:
        return None
    return bootstrap.mean_of(seen.once(_candidates_apart), seen.yard.draws)


def _vendi(seen: Seen) -> Measure | None:
    return None if seen.yard.per_prompt < 2 else bootstrap.mean_of(seen.once(_candidates_vendi), seen.yard.draws)


def _diversity_ratio(seen: Seen) -> Measure | None:
    if seen.yard.per_prompt < 2 or seen.teacher is None:
        return None
    return bootstrap.ratio_of(seen.once(_candidates_apart), seen.yard.once(_teachers_apart), seen.yard.draws)


def _vendi_ratio(seen: Seen) -> Measure | None:
    if seen.yard.per_prompt < 2 or seen.teacher is None:
        return None
    ours, theirs = seen.once(_candidates_vendi), seen.yard.once(_teachers_vendi)
    return bootstrap.ratio_of(ours - 1, theirs - 1, seen.yard.draws)


def _note(metric: Metric, steps: str, ratio: Measure) -> str:
    tame = "tamer than" if ratio.high < TAME else "as varied as" if ratio.high >= 1 else "a little tamer than"
    shown = metric.with_interval(ratio)
    return f"At {steps} its pictures of one prompt are {tame} the teacher's: {shown} of their variety."


METRICS = (
    Metric(
        name="diversity",
        title="Variety within a prompt",
        about="The mean distance of two pictures for one prompt, in units of the distance between unrelated ones.",
        better="higher",
        form="{:.3f}",
        rank=130,
        needs=50,
        against="teacher",
        measure=_diversity,
    ),
    Metric(
        name="vendi",
        title="Vendi score within a prompt",
        about="How many different pictures those of one prompt are worth.",
        better="higher",
        form="{:.2f}",
        rank=140,
        needs=50,
        measure=_vendi,
    ),
    Metric(
        name="diversity_ratio",
        title="Variety against the teacher's",
        about="Below 100 % the model is tamer than its teacher.",
        better="higher",
        form="{:.1%}",
        rank=150,
        needs=50,
        against="teacher",
        shown=Shown(glance=3, column=8, short="variety / teacher's", note=1, noted=_note),
        measure=_diversity_ratio,
    ),
    Metric(
        name="vendi_ratio",
        title="Vendi score against the teacher's",
        about="The same by the Vendi score, less 1 on both sides.",
        better="higher",
        form="{:.1%}",
        rank=160,
        needs=50,
        against="teacher",
        measure=_vendi_ratio,
    ),
)
