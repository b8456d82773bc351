"""Which step count to ship, and why, from the numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewstep.evaluate.bootstrap import Difference, difference
from fewstep.evaluate.metrics import placed, qualities
from fewstep.evaluate.metrics.base import Metric
from fewstep.evaluate.metrics.words import RETRIEVAL
from fewstep.evaluate.results import Results, Row

CLOSE = 0.05  # of the best distance: nobody sees such a difference
PREVIEW = 0.5  # a preview may be so much further away than the final picture
LOST_WORDS = 0.10  # share of prompts that a preview may lose
FEW_LOST_WORDS = 0.02


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
    shared = (each for each in qualities() if rows and all(each.name in row.measures for row in rows))
    metric = next(shared, None)
    if metric is None:
        return Recommendation(None, None, (), (), (), tuple(_notes(results, None)))
    c = results.conditions
    clearest = max(rows, key=lambda row: row.measures[RETRIEVAL.name].value)
    faithful = [row for row in rows if not _loses_words(row, clearest, FEW_LOST_WORDS)]
    best = min(faithful, key=lambda row: row.measures[metric.name].value)
    final = next(row for row in faithful if _as_good(row, best, metric))
    fit = [row for row in rows if row.steps <= final.steps and _fit_for_preview(row, final, metric)]
    live = min(fit, key=lambda row: row.steps)
    avoid = [row for row in rows if row.steps < final.steps and row not in fit]
    worse = [row for row in rows if row.steps > final.steps and _worse(row, final, metric).significant]
    avoid += [row for row in worse if row.measures[metric.name].value > (1 + CLOSE) * final.measures[metric.name].value]
    return Recommendation(
        live=live.steps,
        final=final.steps,
        avoid=tuple(row.steps for row in avoid),
        reasons=tuple(_reasons(rows, best, final, live, avoid, metric)),
        losses=tuple(_losses(results, rows, metric)),
        notes=tuple(_notes(results, final)),
        guess=f"{c.num_images} pictures" if c.num_images < metric.enough(c.num_features) else "",
    )


def _as_good(row: Row, best: Row, metric: Metric) -> bool:
    """That a difference is not significant is no reason: of few pictures none is."""
    return row.measures[metric.name].value <= (1 + CLOSE) * best.measures[metric.name].value


def _fit_for_preview(row: Row, final: Row, metric: Metric) -> bool:
    near = row.measures[metric.name].value <= (1 + PREVIEW) * final.measures[metric.name].value
    return near and not _loses_words(row, final, LOST_WORDS)


def _loses_words(row: Row, other: Row, share: float) -> bool:
    lost = difference(other.measures[RETRIEVAL.name], row.measures[RETRIEVAL.name], paired=True)
    return lost.value > share and lost.significant


def _worse(row: Row, other: Row, metric: Metric) -> Difference:
    return difference(row.measures[metric.name], other.measures[metric.name], paired=True)


def _reasons(
    rows: Sequence[Row], best: Row, final: Row, live: Row, avoid: Sequence[Row], metric: Metric
) -> Iterator[str]:
    title = metric.title
    yield (
        f"{_steps(final.steps).capitalize()}: {title} {metric.with_interval(final.measures[metric.name])}, "
        f"{_shown(RETRIEVAL, final)} of the prompts found again"
        + ("." if final is best else f"; the best, {_steps(best.steps)}, has {_shown(metric, best)}.")
    )
    if live is not final:
        yield (
            f"{_steps(live.steps).capitalize()}: {_shown(metric, live)}, {_shown(RETRIEVAL, live)} found again"
            + (f", in {_times(live, final)} of the time." if live.speed and final.speed else ".")
        )
    for row in avoid:
        more = "more steps, and " if row.steps > final.steps else ""
        yield f"Not {row.steps}: {more}{title} {_shown(metric, row)}, {_shown(RETRIEVAL, row)} found again."
    for fewer, more_steps in pairwise(rows):
        worse = _worse(more_steps, fewer, metric)
        if worse.significant and worse.value > 0:
            yield (
                f"Quality falls from {fewer.steps} to {_steps(more_steps.steps)} ({_shown(metric, fewer)} to "
                f"{_shown(metric, more_steps)}): more steps of plain consistency sampling add error here."
            )


def _losses(results: Results, rows: Sequence[Row], metric: Metric) -> Iterator[str]:
    """Where plain solvers of the teacher, at the same number of steps, are significantly better."""
    for row in rows:
        rivals = [r for r in results.of_role("solver") if r.steps == row.steps and metric.name in r.measures]
        better = [r for r in rivals if _worse(row, r, metric).significant and _worse(row, r, metric).value > 0]
        if better:
            rival = min(better, key=lambda r: r.measures[metric.name].value)
            cost = f", at {rival.speed.p50 / row.speed.p50:.1f} times the time" if rival.speed and row.speed else ""
            yield (
                f"At {_steps(row.steps)} {rival.line} is better: {_shown(metric, rival)} against {_shown(metric, row)}"
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
            and metric.name in r.measures
            and _worse(row, r, metric).significant
            and _worse(row, r, metric).value > 0
        ]
        if rivals:
            rival = min(rivals, key=lambda r: r.measures[metric.name].value)
            assert rival.speed is not None
            yield (
                f"In the time of {_steps(row.steps)} ({1e3 * row.speed.p50:.0f} ms) {rival.label} "
                f"({1e3 * rival.speed.p50:.0f} ms) is better: {_shown(metric, rival)} against {_shown(metric, row)}."
            )


def _notes(results: Results, final: Row | None) -> Iterator[str]:
    if final is None:
        return
    for metric in placed(lambda metric: metric.shown.note):
        if metric.name in final.measures:
            note = metric.shown.noted(metric, _steps(final.steps), final.measures[metric.name])
            yield from () if note is None else (note,)


def _shown(metric: Metric, row: Row) -> str:
    return metric.written(row.measures[metric.name].value)


def _steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"


def _times(a: Row, b: Row) -> str:
    assert a.speed is not None
    assert b.speed is not None
    return f"{a.speed.p50 / b.speed.p50:.0%}"


def _listed(names: Iterator[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
