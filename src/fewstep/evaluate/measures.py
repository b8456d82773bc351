"""All measures of a candidate, and what the sample is too small for."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics import metrics
from fewstep.evaluate.metrics.base import Seen


def measures_of(seen: Seen) -> dict[str, Measure]:
    """By the names of their metrics, those that can be computed."""
    found = ((name, metric.measure(seen)) for name, metric in metrics().items())
    return {name: measure for name, measure in found if measure is not None and measure.known}


def warnings_for(num_images: int, num_features: int, per_prompt: int, names: Iterable[str]) -> list[str]:
    """What the sample is too small for, a sentence each."""
    measured = [metrics()[name] for name in names]
    enough = max((metric.enough(num_features) for metric in measured if metric.by_feature), default=0)
    found = []
    if num_images < enough:
        found.append(
            f"{num_images} pictures are few for a Fréchet distance over {num_features} features (below {enough}): it "
            "is too large by a bias that falls with the number of pictures, so compare it at equal numbers only; the "
            "kernel distance has no such bias"
        )
    few = [metric.title for metric in measured if not metric.by_feature and num_images < metric.needs]
    if few:
        more = f", and {len(few) - 3} more" if len(few) > 4 else ""
        found.append(f"{num_images} pictures are few for: {', '.join(few[: 3 if more else None])}{more}")
    if per_prompt < 2:
        found.append("one picture of each prompt says nothing about variety: use --per-prompt 4")
    return found
