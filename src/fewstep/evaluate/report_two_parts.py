"""The section of the report on two-part prompts, and the same in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metrics.base import Metric
from fewstep.evaluate.metrics.two_parts import METRICS
from fewstep.evaluate.report_pictures import scroll
from fewstep.evaluate.results import Results

REAL = "real compositions (the ceiling)"


def _rows(results: Results) -> Iterator[tuple[str, Mapping[str, Measure]]]:
    """The ceiling first, then everything that was asked."""
    if results.ceiling:
        yield REAL, results.ceiling
        yield from ((row.label, row.measures) for row in results.rows if METRICS[0].name in row.measures)


def lines(results: Results) -> list[str]:
    """One a candidate, kinds with their intervals; none where two-part prompts were not asked."""
    return [
        f"{label}: " + ", ".join(f"{each.title.lower()} {_written(each, measures[each.name])}" for each in METRICS)
        for label, measures in _rows(results)
    ]


def two_parts(results: Results) -> str:
    """HTML, empty where two-part prompts were not asked."""
    rows = list(_rows(results))
    if not rows:
        return ""
    head = "".join(f"<th>{escape(each.title)}<small>↑ higher is better</small></th>" for each in METRICS)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{_cell(each, measures[each.name])}</td>" for each in METRICS)
        + "</tr>"
        for label, measures in rows
    )
    title = "Do words combine?"
    return (
        f'<section id="two-parts"><h2>{title}</h2><p class="lead">A hundred prompts of two parts, one picture each: '
        "the share in which the eye finds both. Real compositions say how much of it the eye can find at all.</p>"
        f"{scroll(title)}<table><thead><tr><th>Way to sample</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        "</section>"
    )


def _written(metric: Metric, measure: Measure) -> str:
    low, high = metric.interval(measure)
    return f"{measure.value:.0%} ({low:.0%} to {high:.0%})"


def _cell(metric: Metric, measure: Measure) -> str:
    low, high = metric.interval(measure)
    return f"{measure.value:.0%}<small>{low:.0%} … {high:.0%}</small>"
