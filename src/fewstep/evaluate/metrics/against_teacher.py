"""Picture by picture against the teacher's from equal noise: how far apart, and how its colours drift."""

from __future__ import annotations

from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown, Yardstick

SEEN = 0.03  # a drift of the colours that is worth a note


def _agreement(seen: Seen) -> Measure | None:
    if seen.teacher is None:
        return None
    apart = (seen.pictures.features.double() - seen.teacher.features.double()).norm(dim=1) / seen.yard.unrelated
    return bootstrap.mean_of(seen.yard.groups(apart), seen.yard.draws)


def _saturation(seen: Seen) -> Measure | None:
    return None if seen.teacher is None else _drift(seen.pictures.chroma, seen.teacher.chroma, seen.yard)


def _contrast(seen: Seen) -> Measure | None:
    return None if seen.teacher is None else _drift(seen.pictures.contrast, seen.teacher.contrast, seen.yard)


def _drift(ours: Tensor, theirs: Tensor, yard: Yardstick) -> Measure:
    ratio = bootstrap.ratio_of(yard.groups(ours), yard.groups(theirs), yard.draws)
    return Measure(ratio.value - 1, tuple(draw - 1 for draw in ratio.draws))


def _agreement_note(metric: Metric, steps: str, agreement: Measure) -> str:
    return (
        f"From equal noise its picture is {metric.written(agreement.value)} from the teacher's (0: the same, 1: as "
        "far as an unrelated one)."
    )


def _saturation_note(metric: Metric, steps: str, drift: Measure) -> str | None:
    if abs(drift.value) <= SEEN:
        return None
    way = "stronger" if drift.value > 0 else "paler"
    return f"Its colours are {way} than the teacher's: {metric.written(drift.value)}."


METRICS = (
    Metric(
        name="agreement",
        title="Distance to the teacher's picture",
        about=(
            "Between pictures from equal noise, in units of the distance between unrelated ones: 0 the same, 1 "
            "unrelated."
        ),
        better="lower",
        form="{:.3f}",
        rank=120,
        needs=50,
        against="teacher",
        shown=Shown(glance=4, column=7, short="to teacher's ↓", note=3, noted=_agreement_note),
        measure=_agreement,
    ),
    Metric(
        name="saturation",
        title="Saturation against the teacher's",
        about="More or less colour than the teacher's pictures: guidance that is baked in twice burns.",
        better="near zero",
        form="{:+.1%}",
        rank=170,
        needs=50,
        against="teacher",
        shown=Shown(column=9, short="colour drift", note=2, noted=_saturation_note),
        measure=_saturation,
    ),
    Metric(
        name="contrast",
        title="Contrast against the teacher's",
        about="More or less contrast than the teacher's pictures.",
        better="near zero",
        form="{:+.1%}",
        rank=180,
        needs=50,
        against="teacher",
        measure=_contrast,
    ),
)
