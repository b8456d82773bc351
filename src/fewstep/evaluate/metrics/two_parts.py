"""Whether words combine: the share of two-part prompts of which the eye finds both parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown
from fewstep.evaluate.two_part_prompts import COLOUR, COUNT, PAIR, built_in


def measures_of(right: Tensor, num_draws: int) -> dict[str, Measure]:
    """Of what was found, for each of the built-in prompts: all of them together, then by kind."""
    return {metric.name: _share(right, num_draws, kind) for metric, kind in zip(METRICS, KINDS, strict=True)}


def _share(right: Tensor, num_draws: int, kind: str | None) -> Measure:
    some = right if kind is None else right[torch.tensor([each.kind == kind for each in built_in()])]
    return bootstrap.mean_of(some, bootstrap.weights(len(some), num_draws))


def _share_of(kind: str | None) -> Callable[[Seen], Measure | None]:
    def measure(seen: Seen) -> Measure | None:
        return None if seen.two_parts is None else _share(seen.two_parts, seen.yard.num_draws, kind)

    return measure


KINDS = (None, COLOUR, PAIR, COUNT)
METRICS = (
    Metric(
        name="two_part",
        title="Two-part prompts",
        about="The share of a hundred prompts of two parts whose picture shows both.",
        better="higher",
        form="{:.1%}",
        rank=91,
        share=True,
        against="two parts",
        shown=Shown(column=4, short="two parts ↑"),
        measure=_share_of(None),
    ),
    Metric(
        name="two_part_colour",
        title="A colour and a thing",
        about="Of these: that colour dominates, and the picture shows that thing.",
        better="higher",
        form="{:.1%}",
        rank=92,
        share=True,
        against="two parts",
        measure=_share_of(COLOUR),
    ),
    Metric(
        name="two_part_things",
        title="Two things",
        about="Of these: each half shows one of the two.",
        better="higher",
        form="{:.1%}",
        rank=93,
        share=True,
        against="two parts",
        measure=_share_of(PAIR),
    ),
    Metric(
        name="two_part_number",
        title="Two or three of a thing",
        about="Of these: there are so many pieces, and most of them show it.",
        better="higher",
        form="{:.1%}",
        rank=94,
        share=True,
        against="two parts",
        measure=_share_of(COUNT),
    ),
)
