"""The Fréchet distance to real pictures and to the teacher's (the formula is in `moments.py`)."""

from __future__ import annotations

from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown, Yardstick
from fewstep.evaluate.moments import Moments, frechet_distance
from fewstep.evaluate.shards import PictureFeatures

MOST_AT_ONCE = 512  # features above which a distance takes seconds, so that fewer draws must do
FEW_DRAWS = 20


def _moments(pictures: PictureFeatures, yard: Yardstick, weights: Tensor | None) -> Moments:
    return Moments.of(pictures.features, None if weights is None else weights.repeat_interleave(yard.per_prompt))


def _draws(yard: Yardstick) -> Tensor:
    """The draws that Fréchet distances are given."""
    teachers = None if yard.teacher is None else yard.teacher.features
    sample = yard.reference if yard.reference is not None else teachers
    wide = sample is not None and sample.shape[1] > MOST_AT_ONCE
    return yard.draws[:FEW_DRAWS] if wide else yard.draws


def _real(yard: Yardstick) -> Moments:
    assert yard.reference is not None
    return Moments.of(yard.reference)


def _teachers(yard: Yardstick) -> list[Moments]:
    """Of the teacher's pictures: all of them, then every draw; drawn like the candidates'."""
    assert yard.teacher is not None
    return [_moments(yard.teacher, yard, weights) for weights in (None, *_draws(yard))]


def _to_real(seen: Seen) -> Measure | None:
    yard = seen.yard
    if yard.reference is None:
        return None

    def distance(weights: Tensor | None) -> float:
        return frechet_distance(yard.once(_real), _moments(seen.pictures, yard, weights))

    return bootstrap.measure(distance, _draws(yard))


def _to_teacher(seen: Seen) -> Measure | None:
    yard = seen.yard
    if seen.teacher is None:
        return None
    pairs = zip((None, *_draws(yard)), yard.once(_teachers), strict=True)
    value, *draws = (frechet_distance(theirs, _moments(seen.pictures, yard, weights)) for weights, theirs in pairs)
    return Measure(value, tuple(draws))


METRICS = (
    Metric(
        name="fd",
        title="Fréchet distance to real pictures",
        about="How far the whole set of pictures is from the reference, by mean and covariance of the features.",
        better="lower",
        form="{:.2f}",
        rank=10,
        needs=4,
        by_feature=True,
        by_size=True,
        against="reference",
        shown=Shown(quality=1, glance=1, column=1, short="FD ↓"),
        measure=_to_real,
    ),
    Metric(
        name="fd_teacher",
        title="Fréchet distance to the teacher",
        about="How far the whole set is from the teacher's pictures for the same prompts and noise.",
        better="lower",
        form="{:.2f}",
        rank=100,
        needs=4,
        by_feature=True,
        by_size=True,
        against="teacher",
        shown=Shown(quality=2, short="FD to teacher ↓"),
        measure=_to_teacher,
    ),
)
