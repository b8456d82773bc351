"""A run's report: one HTML file with its curves and its latest sheet, which needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from fewstep.files import replacing

WIDTH, HEIGHT, MARGIN = 640, 220, 46
COLOURS = ("#2a6fdb", "#d9480f", "#2b8a3e", "#9c36b5", "#c92a2a", "#5c940d")
BINS = [f"loss_q{i}" for i in range(1, 5)]
QUARTERS = ("t in the first quarter (nearly clean)", "second", "third", "last (nearly noise)")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
svg { max-width: 100%; height: auto } svg text { font-size: 11px; fill: #666 } img { max-width: 100% }
.legend span { margin-right: 1.2em } @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } }
"""

Row = Mapping[str, float]


def write_report(path: Path, log: Sequence[Row], measures: Sequence[Row], sheet: Path | None) -> None:
    """Write `path`: what was measured, the loss as a whole and by time, the latest sheet of samples."""
    names = list(dict.fromkeys(name for row in measures for name in row if name != "seen"))
    parts = [f"<h2>{html.escape(name)}</h2>" + chart(measures, {name: name}) for name in names]
    parts += ["<h2>Loss</h2><p>The loss does not tell how good the pictures are: look at them.</p>"]
    parts += [chart(log, {"loss": "loss"}, logarithmic=True)]
    parts += ["<h2>Loss by time</h2>" + chart(log, dict(zip(BINS, QUARTERS, strict=True)), logarithmic=True)]
    parts += ["<h2>Gradient norm</h2>" + chart(log, {"grad_norm": "before clipping"}, logarithmic=True)]
    if sheet is not None and sheet.is_file():
        parts.insert(0, f'<h2>Samples</h2><img alt="the latest sheet of samples" src="{_embedded(sheet)}">')
    title = html.escape(path.resolve().parent.name)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    with replacing(path) as temporary:
        body = "\n".join(parts)
        temporary.write_text(
            f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head>"
            f"<body><h1>{title}</h1>\n{body}\n</body></html>\n",
            encoding="utf-8",
        )


def chart(rows: Sequence[Row], names: Mapping[str, str], *, logarithmic: bool = False) -> str:
    """Lines over the pictures seen, as SVG, with a legend where there are several."""
    lines = {label: _points(rows, name, logarithmic) for name, label in names.items()}
    points = [point for line in lines.values() for point in line]
    if len(points) < 2:
        return "<p>Nothing to draw yet.</p>"
    (left, right), (low, high) = (_range([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> str:
        across = MARGIN + (x - left) / (right - left) * (WIDTH - 2 * MARGIN)
        down = HEIGHT - MARGIN / 2 - (y - low) / (high - low) * (HEIGHT - MARGIN)
        return f"{across:.1f},{down:.1f}"

    drawn = [
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{" ".join(place(*p) for p in line)}"/>'
        for line, colour in zip(lines.values(), COLOURS, strict=False)
    ]
    ticks = []
    for share in (0.0, 0.5, 1.0):
        x, y = left + share * (right - left), low + share * (high - low)
        value = 10**y if logarithmic else y
        ticks.append(f'<text x="{MARGIN - 4}" y="{place(left, y).split(",")[1]}" text-anchor="end">{value:.3g}</text>')
        ticks.append(f'<text x="{place(x, low).split(",")[0]}" y="{HEIGHT - 6}" text-anchor="middle">{x:,.0f}</text>')
    legend = "".join(
        f'<span style="color:{colour}">— {html.escape(label)}</span>'
        for label, colour in zip(lines, COLOURS, strict=False)
    )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn + ticks)}</svg>'
    return svg + (f'<p class="legend">{legend}</p>' if len(lines) > 1 else "")


def _points(rows: Sequence[Row], name: str, logarithmic: bool) -> list[tuple[float, float]]:
    values = [(float(row["seen"]), float(row[name])) for row in rows if row.get(name) is not None]
    values = [(x, y) for x, y in values if math.isfinite(y) and (y > 0 or not logarithmic)]
    return [(x, math.log10(y)) for x, y in values] if logarithmic else values


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _embedded(picture: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
