"""The section of the report on two-part prompts, and the same in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.metric_table import METRICS
from fewstep.evaluate.report_pictures import scroll
from fewstep.evaluate.results import Results

NAMES = ("two_part", "two_part_colour", "two_part_things", "two_part_number")
REAL = "real compositions (the ceiling)"


def _rows(results: Results) -> Iterator[tuple[str, Mapping[str, Measure]]]:
    """The ceiling first, then everything that was asked."""
    if results.ceiling:
        yield REAL, results.ceiling
        yield from ((row.label, row.measures) for row in results.rows if NAMES[0] in row.measures)


def lines(results: Results) -> list[str]:
    """One a candidate, kinds with their intervals; none where two-part prompts were not asked."""
    return [
        f"{label}: " + ", ".join(f"{METRICS[name].title.lower()} {_written(name, measures[name])}" for name in NAMES)
        for label, measures in _rows(results)
    ]


def two_parts(results: Results) -> str:
    """HTML, empty where two-part prompts were not asked."""
    rows = list(_rows(results))
    if not rows:
        return ""
    head = "".join(f"<th>{escape(METRICS[name].title)}<small>↑ higher is better</small></th>" for name in NAMES)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{_cell(name, measures[name])}</td>" for name in NAMES)
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


def _written(name: str, measure: Measure) -> str:
    low, high = METRICS[name].interval(measure)
    return f"{measure.value:.0%} ({low:.0%} to {high:.0%})"


def _cell(name: str, measure: Measure) -> str:
    low, high = METRICS[name].interval(measure)
    return f"{measure.value:.0%}<small>{low:.0%} … {high:.0%}</small>"
