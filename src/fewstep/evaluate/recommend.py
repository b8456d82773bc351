"""Which step count to ship, and why, from the numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewstep.evaluate.bootstrap import Difference, Measure, difference
from fewstep.evaluate.metric_table import METRICS
from fewstep.evaluate.results import Results, Row

QUALITY = ("fd", "fd_teacher")
CLOSE = 0.05  # of the best distance: nobody sees such a difference
PREVIEW = 0.5  # a preview may be so much further away than the final picture
LOST_WORDS = 0.10  # share of prompts that a preview may lose
FEW_LOST_WORDS = 0.02
TAME = 0.9  # of the teacher's variety


@dataclass(frozen=True)
class Recommendation:
    """live, final: step counts, None where nothing could be said. avoid: those not to ship. Sentences give reasons:
    `reasons` for the counts, `losses` where another way to sample is better, `notes` for what else users must know.
    """

    live: int | None
    final: int | None
    avoid: tuple[int, ...]
    reasons: tuple[str, ...]
    losses: tuple[str, ...]
    notes: tuple[str, ...]
    guess: str = ""
    """What the sample is, where it is too small to be sure."""

    @property
    def headline(self) -> str:
        """ "live preview: 2 steps; final: 8; do not ship 1" """
        if self.final is None or self.live is None:
            return "no recommendation: there is neither a reference nor a teacher to measure against"
        counts = (
            f"live preview and final: {_steps(self.final)}"
            if self.live == self.final
            else f"live preview: {_steps(self.live)}; final: {self.final}"
        )
        first = f"a first guess, from {self.guess}: " if self.guess else ""
        return first + counts + (f"; do not ship {_listed(map(str, self.avoid))}" if self.avoid else "")


def recommend(results: Results) -> Recommendation:
    """By the Fréchet distance (to real pictures, else to the teacher's) and by the prompts that are found again."""
    rows = sorted(results.of_role("model"), key=lambda row: row.steps)
    name = next((n for n in QUALITY if rows and all(n in row.measures for row in rows)), None)
    if name is None:
        return Recommendation(None, None, (), (), (), tuple(_notes(results, None)))
    c = results.conditions
    clearest = max(rows, key=lambda row: row.measures["retrieval"].value)
    faithful = [row for row in rows if not _loses_words(row, clearest, FEW_LOST_WORDS)]
    best = min(faithful, key=lambda row: row.measures[name].value)
    final = next(row for row in faithful if _as_good(row, best, name))
    fit = [row for row in rows if row.steps <= final.steps and _fit_for_preview(row, final, name)]
    live = min(fit, key=lambda row: row.steps)
    avoid = [row for row in rows if row.steps < final.steps and row not in fit]
    worse = [row for row in rows if row.steps > final.steps and _worse(row, final, name).significant]
    avoid += [row for row in worse if row.measures[name].value > (1 + CLOSE) * final.measures[name].value]
    return Recommendation(
        live=live.steps,
        final=final.steps,
        avoid=tuple(row.steps for row in avoid),
        reasons=tuple(_reasons(rows, best, final, live, avoid, name)),
        losses=tuple(_losses(results, rows, name)),
        notes=tuple(_notes(results, final)),
        guess=f"{c.num_images} pictures" if c.num_images < METRICS[name].needs * c.num_features else "",
    )


def _as_good(row: Row, best: Row, name: str) -> bool:
    """That a difference is not significant is no reason: of few pictures none is."""
    return row.measures[name].value <= (1 + CLOSE) * best.measures[name].value


def _fit_for_preview(row: Row, final: Row, name: str) -> bool:
    near = row.measures[name].value <= (1 + PREVIEW) * final.measures[name].value
    return near and not _loses_words(row, final, LOST_WORDS)


def _loses_words(row: Row, other: Row, share: float) -> bool:
    lost = difference(other.measures["retrieval"], row.measures["retrieval"], paired=True)
    return lost.value > share and lost.significant


def _worse(row: Row, other: Row, name: str) -> Difference:
    return difference(row.measures[name], other.measures[name], paired=True)


def _reasons(rows: Sequence[Row], best: Row, final: Row, live: Row, avoid: Sequence[Row], name: str) -> Iterator[str]:
    title = METRICS[name].title
    yield (
        f"{_steps(final.steps).capitalize()}: {title} {_with_interval(name, final.measures[name])}, "
        f"{_shown('retrieval', final)} of the prompts found again"
        + ("." if final is best else f"; the best, {_steps(best.steps)}, has {_shown(name, best)}.")
    )
    if live is not final:
        yield (
            f"{_steps(live.steps).capitalize()}: {_shown(name, live)}, {_shown('retrieval', live)} found again"
            + (f", in {_times(live, final)} of the time." if live.speed and final.speed else ".")
        )
    for row in avoid:
        more = "more steps, and " if row.steps > final.steps else ""
        yield f"Not {row.steps}: {more}{title} {_shown(name, row)}, {_shown('retrieval', row)} found again."
    for fewer, more_steps in pairwise(rows):
        if _worse(more_steps, fewer, name).significant and more_steps.measures[name].value > fewer.measures[name].value:
            yield (
                f"Quality falls from {fewer.steps} to {_steps(more_steps.steps)} ({_shown(name, fewer)} to "
                f"{_shown(name, more_steps)}): more steps of plain consistency sampling add error here."
            )


def _losses(results: Results, rows: Sequence[Row], name: str) -> Iterator[str]:
    """Where plain solvers of the teacher, at the same number of steps, are significantly better."""
    for row in rows:
        rivals = [r for r in results.of_role("solver") if r.steps == row.steps and name in r.measures]
        better = [r for r in rivals if _worse(row, r, name).significant and _worse(row, r, name).value > 0]
        if better:
            rival = min(better, key=lambda r: r.measures[name].value)
            cost = f", at {rival.speed.p50 / row.speed.p50:.1f} times the time" if rival.speed and row.speed else ""
            yield (
                f"At {_steps(row.steps)} {rival.line} is better: {_shown(name, rival)} against {_shown(name, row)}"
                f"{cost}."
            )
    for row in rows:
        if row.speed is None:
            continue
        rivals = [
            r
            for r in results.of_role("solver")
            if r.speed is not None
            and r.speed.p50 <= row.speed.p50
            and name in r.measures
            and _worse(row, r, name).significant
            and _worse(row, r, name).value > 0
        ]
        if rivals:
            rival = min(rivals, key=lambda r: r.measures[name].value)
            assert rival.speed is not None
            yield (
                f"In the time of {_steps(row.steps)} ({1e3 * row.speed.p50:.0f} ms) {rival.label} "
                f"({1e3 * rival.speed.p50:.0f} ms) is better: {_shown(name, rival)} against {_shown(name, row)}."
            )


def _notes(results: Results, final: Row | None) -> Iterator[str]:
    if final is None:
        return
    ratio = final.measures.get("diversity_ratio")
    if ratio is not None:
        tame = "tamer than" if ratio.high < TAME else "as varied as" if ratio.high >= 1 else "a little tamer than"
        yield (
            f"At {_steps(final.steps)} its pictures of one prompt are {tame} the teacher's: "
            f"{_with_interval('diversity_ratio', ratio)} of their variety."
        )
    drift = final.measures.get("saturation")
    if drift is not None and abs(drift.value) > 0.03:
        way = "stronger" if drift.value > 0 else "paler"
        yield f"Its colours are {way} than the teacher's: {_shown('saturation', final)}."
    agreement = final.measures.get("agreement")
    if agreement is not None:
        yield (
            f"From equal noise its picture is {_shown('agreement', final)} from the teacher's (0: the same, 1: as far "
            "as an unrelated one)."
        )


def _shown(name: str, row: Row) -> str:
    return METRICS[name].written(row.measures[name].value)


def _with_interval(name: str, measure: Measure) -> str:
    metric = METRICS[name]
    low, high = metric.interval(measure)
    return f"{metric.written(measure.value)} ({metric.written(low)} to {metric.written(high)})"


def _steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"


def _times(a: Row, b: Row) -> str:
    assert a.speed is not None
    assert b.speed is not None
    return f"{a.speed.p50 / b.speed.p50:.0%}"


def _listed(names: Iterator[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
