"""`report.html`: one file that opens anywhere, with its pictures, curves and tables inside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from fewstep.evaluate.card import sentence
from fewstep.evaluate.charts import Point, Series, curves, scatter
from fewstep.evaluate.gallery import Gallery
from fewstep.evaluate.metrics import led_by_quality, metrics, placed, qualities
from fewstep.evaluate.metrics.base import Metric
from fewstep.evaluate.report_pictures import grid, scroll, strips, twins
from fewstep.evaluate.report_two_parts import two_parts
from fewstep.evaluate.results import Results, Row
from fewstep.files import replacing

STYLE = Path(__file__).parent / "page" / "report.css"
COLORS = 8
ARROWS = {
    "lower": "↓ lower is better",
    "higher": "↑ higher is better",
    "near zero": "0 is best",
    "near one": "1 is best",
}


def write_report(results: Results, gallery: Gallery, path: Path) -> None:
    """Write the page, whole or not at all."""
    with replacing(path) as file:
        file.write_text(page(results, gallery), encoding="utf-8")


def page(results: Results, gallery: Gallery) -> str:
    """The whole HTML document."""
    title = f"Which step count may I ship? {results.model}"
    sections = [
        _hero(results),
        _glance(results),
        two_parts(results),
        _pareto(results),
        _curves(results),
        grid(gallery, results),
        strips(gallery, results),
        twins(gallery),
        _everything(results),
        _method(results),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body>{_bar()}<main>{''.join(section for section in sections if section)}</main></body></html>\n"
    )


def _bar() -> str:
    links = (
        ("glance", "At a glance"),
        ("cost", "Quality and time"),
        ("curves", "Curves"),
        ("pictures", "Pictures"),
        ("all", "All numbers"),
        ("method", "Method"),
    )
    items = "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in links)
    return f'<header class="bar"><span class="brand">fewstep <small>evaluate</small></span><nav>{items}</nav></header>'


def _hero(results: Results) -> str:
    advice, c = results.recommendation, results.conditions
    reasons = "".join(f"<li>{escape(text)}</li>" for text in advice["reasons"])
    columns = [
        _list("Where it loses", advice["losses"], "bad"),
        _list("Know also", advice["notes"], "note"),
        _list("Mind the sample", results.warnings, "warn"),
    ]
    chips = [
        f"{c.num_images:,} pictures each",
        f"{len(results.rows)} ways to sample",
        f"{c.width} × {c.height}",
        c.device,
    ]
    return (
        f'<section class="hero"><p class="eyebrow">{escape(results.model)}: which step count may I ship?</p>'
        f"<h1>{escape(sentence(advice['headline']))}</h1>"
        f'<ul class="reasons">{reasons}</ul><p class="chips">{"".join(f"<span>{escape(x)}</span>" for x in chips)}</p>'
        f'<div class="columns">{"".join(columns)}</div></section>'
    )


def _list(title: str, items: Sequence[str], kind: str) -> str:
    if not items:
        return ""
    return f'<div class="{kind}"><h2>{title}</h2><ul>{"".join(f"<li>{escape(x)}</li>" for x in items)}</ul></div>'


def _glance(results: Results) -> str:
    columns = placed(lambda metric: metric.shown.glance)
    chosen = led_by_quality(columns, lambda metric: any(metric.name in row.measures for row in results.rows))
    rows = [row for row in results.rows if row.role in ("model", "teacher", "also")]
    best = {metric.name: _best(rows, metric) for metric in chosen}
    head = "".join(map(_head, chosen))
    body = []
    for row in rows:
        cells = "".join(_cell(row, metric, bold=row is best[metric.name]) for metric in chosen)
        badge = _badge(results, row)
        speed = "<td>–</td>" if row.speed is None else f"<td>{_ms(row.speed.p50)}</td>"
        body.append(f'<tr class="{row.role}"><th scope="row">{escape(row.label)}{badge}</th>{cells}{speed}</tr>')
    return (
        f'<section id="glance"><h2>At a glance</h2>{scroll("At a glance")}<table><thead><tr><th>Way to sample</th>'
        f"{head}"
        f"<th>One picture<small>median time</small></th></tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        "</section>"
    )


def _badge(results: Results, row: Row) -> str:
    advice = results.recommendation
    if row.role != "model":
        return ""
    if row.steps in advice["avoid"]:
        return '<span class="badge no">do not ship</span>'
    uses = [text for text in ("live", "final") if advice[text] == row.steps]
    return f'<span class="badge yes">{" and ".join(uses)}</span>' if uses else ""


def _best(rows: Sequence[Row], metric: Metric) -> Row | None:
    having = [row for row in rows if metric.name in row.measures]
    if metric.better not in ("lower", "higher") or not having:
        return None
    return (min if metric.better == "lower" else max)(having, key=lambda row: row.measures[metric.name].value)


def _head(metric: Metric) -> str:
    return f"<th>{escape(metric.title)}<small>{ARROWS[metric.better]}</small></th>"


def _cell(row: Row, metric: Metric, *, bold: bool = False) -> str:
    if metric.name not in row.measures:
        return "<td>–</td>"
    measure = row.measures[metric.name]
    text = metric.written(measure.value)
    text = f"<b>{text}</b>" if bold else text
    return f"<td>{text}{_interval(metric, *metric.interval(measure))}</td>"


def _interval(metric: Metric, low: float, high: float) -> str:
    return "" if math.isnan(low) else f"<small>{metric.written(low)} … {metric.written(high)}</small>"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def lines_of(results: Results) -> dict[str, int]:
    """The color number of every curve: the models first, then the plain solvers."""
    order = {"model": 0, "also": 1, "solver": 2, "teacher": 3}
    rows = sorted(results.rows, key=lambda row: order[row.role])
    names = list(dict.fromkeys(row.line for row in rows if row.role != "teacher"))
    return {name: min(index, COLORS - 1) for index, name in enumerate(names)}


def _series(results: Results, metric: Metric) -> list[Series]:
    found = []
    for line, color in lines_of(results).items():
        rows = [row for row in results.rows if row.line == line and row.role != "teacher"]
        rows = [row for row in rows if metric.name in row.measures]
        rows.sort(key=lambda row: row.steps)
        if rows:
            found.append(Series(line, color, tuple(_point(row, metric, row.steps) for row in rows)))
    return found


def _point(row: Row, metric: Metric, x: float) -> Point:
    measure = row.measures[metric.name]
    low, high = metric.interval(measure)
    text = metric.written(measure.value) if math.isnan(low) else metric.with_interval(measure)
    return Point(x, measure.value, low, high, f"{row.label}: {text}")


def _legend(results: Results, *, teacher: bool = True) -> str:
    items = [f'<span class="s{color}"><i></i>{escape(line)}</span>' for line, color in lines_of(results).items()]
    if teacher and results.teacher is not None:
        items.append(f'<span class="level"><i></i>{escape(results.teacher.label)}</span>')
    return f'<p class="legend">{"".join(items)}</p>'


def _pareto(results: Results) -> str:
    timed = [row for row in results.rows if row.speed]
    metric = next((each for each in qualities() if any(each.name in row.measures for row in timed)), None)
    if metric is None:
        return ""
    series = []
    for line, color in lines_of(results).items():
        rows = [row for row in results.rows if row.line == line and row.role != "teacher"]
        points = tuple(_point(row, metric, row.speed.p50) for row in rows if row.speed and metric.name in row.measures)
        series.append(Series(line, color, points))
    teacher = results.teacher
    if teacher is not None and teacher.speed and metric.name in teacher.measures:
        series.append(Series(teacher.line, COLORS, (_point(teacher, metric, teacher.speed.p50),)))
    chart = scatter([s for s in series if s.points], lambda v: f"{v:g}", _ms, f"{metric.title} against time")
    return (
        f'<section id="cost"><h2>Quality against time</h2><p class="lead">{escape(metric.title)} against the median '
        "time for one picture; down and left is better. The line joins what nothing else beats in both; the numbers "
        f"are steps.</p>{_legend(results)}{scroll('Quality against time')}{chart}</div></section>"
    )


def _curves(results: Results) -> str:
    cards = []
    for metric in metrics().values():
        series = _series(results, metric)
        if not series:
            continue
        teacher = results.teacher
        level = _point(teacher, metric, 1) if teacher is not None and metric.name in teacher.measures else None
        form = (lambda v: f"{v:.0%}") if metric.percent else (lambda v: f"{v:g}")
        chart = curves(series, level, form, f"{metric.title} against steps")
        cards.append(
            f'<figure class="card"><figcaption><b>{escape(metric.title)}</b><span>{ARROWS[metric.better]}</span>'
            f"</figcaption>{chart}<p>{escape(metric.about)}</p></figure>"
        )
    if not cards:
        return ""
    return (
        '<section id="curves"><h2>Every measure against the number of steps</h2><p class="lead">Bands are 95 % '
        "intervals; the grey level is the teacher at its full length. Hover over a point for its numbers.</p>"
        f'{_legend(results)}<div class="cards">{"".join(cards)}</div></section>'
    )


def _everything(results: Results) -> str:
    measured = [each for each in metrics().values() if any(each.name in row.measures for row in results.rows)]
    head = "".join(map(_head, measured))
    speeds = ("p50", "p95", "Pictures a second", "Peak memory")
    head += "".join(f"<th>{name}</th>" for name in speeds)
    body = []
    for row in results.rows:
        cells = "".join(_cell(row, metric) for metric in measured)
        body.append(f'<tr class="{row.role}"><th scope="row">{escape(row.label)}</th>{cells}{_speed_cells(row)}</tr>')
    return (
        f'<section id="all"><h2>All numbers</h2>{scroll("All numbers")}<table><thead><tr><th>Way to sample</th>'
        f"{head}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _speed_cells(row: Row) -> str:
    if row.speed is None:
        return "<td>–</td>" * 4
    s = row.speed
    cells = (_ms(s.p50), _ms(s.p95), f"{s.pictures_per_second:.1f}", f"{s.peak_memory / 2**20:,.0f} MiB")
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _method(results: Results) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(results))
    return f'<section id="method"><h2>How this was measured</h2><dl>{facts}</dl></section>'


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    c = results.conditions
    if results.command:
        yield "Command", results.command
    yield (
        "Pictures",
        f"{c.num_images:,} for each way to sample: {c.per_prompt} of each of {c.num_images // c.per_prompt}",
    )
    yield "Prompts", f"{c.prompts} ({c.prompts_identity}); picture number i has the seed {c.seed} + i for all"
    yield "Real pictures", f"{c.reference_size:,} of {c.reference} ({c.reference_identity})" if c.reference else "none"
    yield "Teacher", f"{c.teacher} ({c.teacher_hash})" if c.teacher else "none"
    yield "Feature network", f"{c.features} ({c.features_identity})"
    guidance = ", ".join(dict.fromkeys(f"{row.model}: {row.guidance_scale:g}" for row in results.rows))
    yield "Guidance scale", guidance
    yield "Intervals", f"95 %, from {c.draws} bootstrap draws of whole prompts, shared by all candidates"
    yield "Device", f"{c.device}, {c.threads} thread{'s' if c.threads != 1 else ''}, {c.dtype}"
    yield "Time", "one picture alone, from words to pixels, in turns with the others; pictures a second in batches"
    yield "Memory", "of the whole process on a CPU, of what torch allocated on a GPU"
    yield "Version", f"fewstep {results.version}"
