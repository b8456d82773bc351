"""The model card's section in Markdown: the recommendation, its reasons, and the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fewstep.evaluate.metrics import led_by_quality, placed
from fewstep.evaluate.metrics.base import Metric
from fewstep.evaluate.results import Results, Row


def card_section(results: Results) -> str:
    """Markdown, to be put under a model's card."""
    advice = results.recommendation
    lines = ["## Which step count to use", "", f"**{sentence(advice['headline'])}**", ""]
    for title, part in (("", "reasons"), ("Where it loses", "losses"), ("Know also", "notes")):
        if advice[part]:
            lines += [f"{title}:", ""] if title else []
            lines += [*(f"- {sentence}" for sentence in advice[part]), ""]
    lines += [*table(results, results.rows), "", *_small_print(results), ""]
    return "\n".join(lines)


def sentence(headline: str) -> str:
    return headline[:1].upper() + headline[1:] + "."


def table(results: Results, rows: Sequence[Row]) -> list[str]:
    """A Markdown table of candidates; the interval of 95 % behind the first measure."""
    columns = placed(lambda metric: metric.shown.column)
    chosen = led_by_quality(columns, lambda metric: any(metric.name in row.measures for row in rows))
    heads = ["way to sample", *(metric.shown.short for metric in chosen), "ms", "pictures/s"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' --: |' * (len(heads) - 1)}"]
    for row in rows:
        cells = [_cell(row, metric, with_interval=metric is chosen[0]) for metric in chosen]
        speed = ["–", "–"]
        if row.speed is not None:
            speed = [f"{1e3 * row.speed.p50:.0f}", f"{row.speed.pictures_per_second:.1f}"]
        label = f"**{row.label}**" if row.role == "model" else row.label
        lines.append(f"| {' | '.join([label, *cells, *speed])} |")
    return lines


def _cell(row: Row, metric: Metric, *, with_interval: bool) -> str:
    if metric.name not in row.measures:
        return "–"
    measure = row.measures[metric.name]
    text = metric.written(measure.value)
    return f"{text} ± {metric.written(measure.high - measure.value)}" if with_interval else text


def _small_print(results: Results) -> Iterator[str]:
    c = results.conditions
    against = f"real pictures: {c.reference_size} of {c.reference}" if c.reference else "no real pictures"
    yield (
        f"{c.num_images} pictures of {c.width} x {c.height} for each way, {c.per_prompt} of each of "
        f"{c.num_images // c.per_prompt} prompts ({c.prompts}), the same prompts and noise for all, seeds from "
        f"{c.seed}; "
        f"features: {c.features}; {against}. ms: the median for one picture alone, on {c.device} ({c.threads} "
        f"thread{'s' if c.threads != 1 else ''}, {c.dtype}). ±: 95 %, by a bootstrap over prompts ({c.draws} draws)."
    )
    if results.command:
        yield ""
        yield f"Made by `{results.command}`."
    for warning in results.warnings:
        yield ""
        yield f"Note: {warning}."
