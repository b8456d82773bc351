"""Two evaluations side by side: which is better where, and where the difference may be chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewstep.errors import InvalidRequest
from fewstep.evaluate.bootstrap import Difference, difference
from fewstep.evaluate.metrics import metrics
from fewstep.evaluate.metrics.base import Against
from fewstep.evaluate.results import Conditions, Results, Row

LEVEL = 0.05  # of all comparisons together (Holm 1979)


@dataclass(frozen=True)
class Compared:
    """One measure of two candidates at equal steps. `better` is "A", "B" or "", where it may be chance."""

    a: Row
    b: Row
    name: str
    difference: Difference
    better: str

    @property
    def title(self) -> str:
        return self.a.label if self.a.label == self.b.label else f"{self.a.label} | {self.b.label}"


@dataclass(frozen=True)
class Comparison:
    """All of them, and what could not be compared and why."""

    rows: tuple[Compared, ...]
    remarks: tuple[str, ...]

    @property
    def verdict(self) -> str:
        counts = {side: sum(row.better == side for row in self.rows) for side in ("A", "B", "")}
        return (
            f"A is better in {counts['A']} of {len(self.rows)} comparisons, B in {counts['B']}; "
            f"{counts['']} may be chance"
        )


def compare(a: Results, b: Results) -> Comparison:
    """Raises `InvalidRequest` where nothing can be compared."""
    if a.conditions.features_identity != b.conditions.features_identity:
        raise InvalidRequest(
            f"A was looked at by {a.conditions.features_identity} and B by {b.conditions.features_identity}: numbers "
            "of different networks cannot be compared; evaluate both with the same --features"
        )
    left_out = dict(_left_out(a.conditions, b.conditions))
    paired = _same_draws(a.conditions, b.conditions)
    pairs = list(_pairs(a, b))
    if not pairs:
        raise InvalidRequest("A and B have no step count and no way to sample in common")
    found = [
        (one, other, name, difference(one.measures[name], other.measures[name], paired=paired))
        for one, other in pairs
        for name in metrics()
        if name in one.measures and name in other.measures and name not in left_out
    ]
    certain = _holm([each[3].p for each in found])
    rows = [
        Compared(one, other, name, apart, _better(one, other, name) if sure else "")
        for (one, other, name, apart), sure in zip(found, certain, strict=True)
    ]
    remarks = list(dict.fromkeys(left_out.values()))
    if not paired:
        remarks.append(
            "the prompts, seeds or numbers of pictures differ, so differences are less certain than they were"
        )
    return Comparison(tuple(rows), tuple(remarks))


def _left_out(a: Conditions, b: Conditions) -> Iterator[tuple[str, str]]:
    """Measures that mean something else in A and in B, and why."""
    if a.num_images != b.num_images or a.per_prompt != b.per_prompt:
        for name in (metric.name for metric in metrics().values() if metric.by_size):
            yield name, f"A has {a.num_images} pictures and B {b.num_images}: distances and shares depend on that"
    if a.reference_identity != b.reference_identity:
        for name in _against("reference"):
            yield name, "the real pictures differ: nothing that was measured against them is compared"
    if a.two_part_identity != b.two_part_identity:
        for name in _against("two parts"):
            yield name, "the prompts of two parts, or what looks for them, differ: their scores are not compared"
    if a.teacher != b.teacher or a.teacher_hash != b.teacher_hash:
        for name in _against("teacher"):
            yield name, "the teachers differ: nothing that was measured against them is compared"


def _against(what: Against) -> Iterator[str]:
    return (metric.name for metric in metrics().values() if metric.against == what)


def _same_draws(a: Conditions, b: Conditions) -> bool:
    names = ("prompts_identity", "num_images", "per_prompt", "seed", "draws")
    return all(getattr(a, name) == getattr(b, name) for name in names)


def _pairs(a: Results, b: Results) -> Iterator[tuple[Row, Row]]:
    """The models by their step counts, all else by its label."""
    for one in a.rows:
        for other in b.rows:
            same = one.steps == other.steps if one.role == "model" else one.label == other.label
            if one.role == other.role and same:
                yield one, other


def _better(a: Row, b: Row, name: str) -> str:
    first, second = a.measures[name].value, b.measures[name].value
    match metrics()[name].better:
        case "lower":
            return "A" if first < second else "B"
        case "higher":
            return "A" if first > second else "B"
        case "near zero":
            return "A" if abs(first) < abs(second) else "B"
        case "near one":
            return "A" if abs(first - 1) < abs(second - 1) else "B"


def _holm(chances: Sequence[float]) -> list[bool]:
    """Which are significant, so that the chance of one false claim among all is `LEVEL` at most (Holm 1979)."""
    certain = [False] * len(chances)
    order = sorted(range(len(chances)), key=lambda i: chances[i])
    for rank, index in enumerate(order):
        if chances[index] > LEVEL / (len(chances) - rank):
            break
        certain[index] = True
    return certain


def as_markdown(comparison: Comparison) -> str:
    """A table for people and for issues."""
    lines = ["| | measure | A | B | A - B | p | better |", "| --- | --- | --: | --: | --: | --: | :-: |"]
    for row in comparison.rows:
        metric = metrics()[row.name]
        a, b = (metric.written(side.measures[row.name].value) for side in (row.a, row.b))
        apart = metric.written(row.difference.value)
        lines.append(
            f"| {row.title} | {metric.title} | {a} | {b} | {apart} | {row.difference.p:.2g} | {row.better or '='} |"
        )
    return "\n".join([*lines, "", comparison.verdict + ".", *(f"Note: {remark}." for remark in comparison.remarks), ""])
