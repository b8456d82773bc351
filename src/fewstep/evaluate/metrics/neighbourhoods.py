"""Who lies among whom: precision, recall, density and coverage, over the neighbourhoods of real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric, Seen, Shown, Yardstick

NEIGHBOURS = 5  # k of the neighbourhoods, as Naeem et al. have it
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Who lies among whom: precision and recall (Kynkäänniemi et al. 2019, 1904.06991), density and coverage (Naeem
    et al. 2020, 2002.09797), over balls that reach to the `NEIGHBOURS`-th nearest neighbour in a picture's own set.

    precise  (N,): 1 where a picture lies in some ball of the reference
    dense    (N,): in how many of them, over k
    recalls  (G, M): whether any picture of the group has the reference's picture in its ball
    covers   (G, M): whether any picture of the group lies in its ball
    nearest  (N,) int64: the reference's picture that is nearest, and `nearest_distance` (N,) to it
    """

    precise: Tensor
    dense: Tensor
    recalls: Tensor
    covers: Tensor
    nearest: Tensor
    nearest_distance: Tensor

    @classmethod
    def of(cls, features: Tensor, reference: Tensor, group_size: int, radii: Tensor | None = None) -> Neighbourhoods:
        """Of pictures, whose neighbours in rows of `group_size` are groups; `radii` of the reference where known."""
        x, y = features.double(), reference.double()
        theirs = neighbourhood_radii(y) if radii is None else radii
        ours = neighbourhood_radii(x)
        step = max(1, ROWS_AT_ONCE // group_size) * group_size
        parts = []
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            far = torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")
            within = far < theirs
            nearest = far.min(1)
            parts.append(
                (
                    within.any(1).double(),
                    within.sum(1).double() / NEIGHBOURS,
                    (far < ours[rows, None]).view(-1, group_size, len(y)).any(1),
                    within.view(-1, group_size, len(y)).any(1),
                    nearest.indices,
                    nearest.values,
                )
            )
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def recall(self, weights: Tensor | None = None) -> float:
        """The share of the reference that lies in a ball of some picture; groups of weight 0 are not there."""
        return _share_reached(self.recalls, weights)

    def coverage(self, weights: Tensor | None = None) -> float:
        """The share of the reference's balls that hold some picture; groups of weight 0 are not there."""
        return _share_reached(self.covers, weights)


def _share_reached(reached: Tensor, weights: Tensor | None) -> float:
    return float((reached if weights is None else reached[weights > 0]).any(0).double().mean())


def neighbourhood_radii(x: Tensor) -> Tensor:
    """(N,): how far each row's `NEIGHBOURS`-th nearest other row is (the last one's, where there are fewer)."""
    k = min(NEIGHBOURS, len(x) - 1) + 1  # the first is the row itself
    blocks = (torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist") for rows in x.split(ROWS_AT_ONCE))
    return torch.cat([far.kthvalue(k, dim=1).values for far in blocks])


def _real_radii(yard: Yardstick) -> Tensor:
    assert yard.reference is not None
    return neighbourhood_radii(yard.reference.double())


def _near(seen: Seen) -> Neighbourhoods | None:
    """Once for all four."""
    yard = seen.yard
    if yard.reference is None:
        return None
    return Neighbourhoods.of(seen.pictures.features, yard.reference, yard.per_prompt, yard.once(_real_radii))


def _precision(seen: Seen) -> Measure | None:
    near = seen.once(_near)
    return None if near is None else bootstrap.mean_of(seen.yard.groups(near.precise), seen.yard.draws)


def _recall(seen: Seen) -> Measure | None:
    near = seen.once(_near)
    return None if near is None else bootstrap.measure(near.recall, seen.yard.draws)


def _density(seen: Seen) -> Measure | None:
    near = seen.once(_near)
    return None if near is None else bootstrap.mean_of(seen.yard.groups(near.dense), seen.yard.draws)


def _coverage(seen: Seen) -> Measure | None:
    near = seen.once(_near)
    return None if near is None else bootstrap.measure(near.coverage, seen.yard.draws)


METRICS = (
    Metric(
        name="precision",
        title="Precision",
        about="The share of the pictures that lie among real ones: are they plausible?",
        better="higher",
        form="{:.1%}",
        rank=30,
        needs=200,
        share=True,
        against="reference",
        measure=_precision,
    ),
    Metric(
        name="recall",
        title="Recall",
        about="The share of the real pictures that lie among these: is everything there?",
        better="higher",
        form="{:.1%}",
        rank=40,
        needs=200,
        share=True,
        by_size=True,
        against="reference",
        measure=_recall,
    ),
    Metric(
        name="density",
        title="Density",
        about="How many real pictures' neighbourhoods a picture lies in, over five.",
        better="higher",
        form="{:.2f}",
        rank=50,
        needs=200,
        against="reference",
        measure=_density,
    ),
    Metric(
        name="coverage",
        title="Coverage",
        about="The share of real pictures that have one of these in their neighbourhood.",
        better="higher",
        form="{:.1%}",
        rank=60,
        needs=200,
        share=True,
        by_size=True,
        against="reference",
        shown=Shown(column=6, short="coverage ↑"),
        measure=_coverage,
    ),
)
