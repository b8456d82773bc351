"""What a metric is: how it is called, computed and shown, from what was seen of a candidate's pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Self, TypeVar, cast

import torch
from torch import Tensor

from fewstep.evaluate import bootstrap
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.shards import PictureFeatures

T = TypeVar("T")
Better = Literal["lower", "higher", "near zero", "near one"]
Against = Literal["", "reference", "teacher", "two parts"]


class Remembering:
    """Keeps what several metrics need, so that it is computed once."""

    @cached_property
    def _kept(self) -> dict[Callable[[Self], object], object]:
        return {}

    def once(self, make: Callable[[Self], T]) -> T:
        """`make(self)`, computed when it is first asked for."""
        if make not in self._kept:
            self._kept[make] = make(self)
        return cast(T, self._kept[make])


@dataclass(frozen=True, eq=False)
class Yardstick(Remembering):
    """What candidates are measured against.

    reference  features (M, D) of real pictures, or None
    teacher    what was seen of the teacher's pictures, or None
    words      embeddings (P, E) of the prompts
    """

    reference: Tensor | None
    teacher: PictureFeatures | None
    words: Tensor
    per_prompt: int
    num_draws: int

    @cached_property
    def draws(self) -> Tensor:
        return bootstrap.weights(len(self.words), self.num_draws)

    @property
    def has_unit(self) -> bool:
        """Whether there are pictures of which `unrelated` can be taken."""
        return self.teacher is not None or self.reference is not None

    @cached_property
    def unrelated(self) -> float:
        """The mean distance between pictures of different prompts: of the teacher, or of the reference."""
        x = self.teacher.features[:: self.per_prompt] if self.teacher is not None else self.reference
        assert x is not None
        return float(mean_pairwise_distance(x[:2048]))

    def groups(self, values: Tensor) -> Tensor:
        """One value a picture (N,) to the means for each prompt (P,)."""
        return values.double().view(-1, self.per_prompt).mean(1)


@dataclass(frozen=True, eq=False)
class Seen(Remembering):
    """What a candidate's pictures give.

    two_parts  for each of the two-part prompts, whether both parts were found: (100,) float64; None where they were
               not asked
    """

    pictures: PictureFeatures
    yard: Yardstick
    is_teacher: bool = False
    two_parts: Tensor | None = None

    @property
    def teacher(self) -> PictureFeatures | None:
        """Of the teacher's pictures; None for the teacher itself, which is not compared to itself."""
        return None if self.is_teacher else self.yard.teacher


@dataclass(frozen=True)
class Shown:
    """Where a metric stands in what people read first; 0: not there.

    quality  its place among those that the recommendation goes by; the first that was measured leads every table
    glance   its place in the report's table "At a glance"
    column   its place in the card's table, under the heading `short`
    note     its place among the recommendation's notes, which `noted` words
    """

    quality: int = 0
    glance: int = 0
    column: int = 0
    short: str = ""
    note: int = 0
    noted: Callable[[Metric, str, Measure], str | None] = lambda metric, steps, measure: None
    """From the metric, "4 steps" and the measure at these; None: nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measure of a candidate.

    name        its key in `results.json`
    title       its name for people; `about`: what it says, in a sentence
    form        how a value is written
    rank        its place where all are listed
    needs       pictures below which it says little; `by_feature`: for each feature
    share       whether it is a part of a whole, which no interval leaves
    by_size     whether it depends on the number of pictures, so that two runs compare at equal numbers only
    against     what it is measured against: where that differs between two runs, they are not compared
    shown       where it stands in what people read first; curves, the table of all numbers, `results.json` and
                `fewstep compare` have every metric
    measure     its value with the bootstrap's draws; None where there is nothing to compute it from
    """

    name: str
    title: str
    about: str
    better: Better
    form: str
    measure: Callable[[Seen], Measure | None]
    rank: int = 1000
    needs: int = 0
    by_feature: bool = False
    share: bool = False
    by_size: bool = False
    against: Against = ""
    shown: Shown = field(default_factory=Shown)

    def enough(self, num_features: int) -> int:
        """How many pictures it needs."""
        return self.needs * num_features if self.by_feature else self.needs

    def interval(self, measure: Measure) -> tuple[float, float]:
        """Of 95 %; NaN twice where it is not known."""
        if not self.share or math.isnan(measure.error):
            return measure.low, measure.high
        return max(measure.low, 0.0), min(measure.high, 1.0)

    @property
    def percent(self) -> bool:
        return self.form.endswith("%}")

    def written(self, value: float) -> str:
        return self.form.format(value)

    def with_interval(self, measure: Measure) -> str:
        low, high = self.interval(measure)
        return f"{self.written(measure.value)} ({self.written(low)} to {self.written(high)})"


def mean_pairwise_distance(features: Tensor) -> Tensor:
    """The mean Euclidean distance over the pairs of a set: (..., n, D), n of at least 2, to (...)."""
    x, n = features.double(), features.shape[-2]
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((-2, -1)) / (n * (n - 1))
