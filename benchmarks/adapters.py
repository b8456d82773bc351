"""What the starter's adapters do: how much of the style arrives, and how much of what was asked for stays.

    python -m recipes.starter art judge && python -m recipes.adapters      (once)
    python -m benchmarks.adapters          (writes benchmarks/results/adapters.json and .md)

Concepts that were never shown in the style are painted by every combination of model and adapters, from the same noise.
`ink` is the share of the drawn pixels that have the ink's hue. `top 1` and `top 5` tell whether the nearest real
drawings, under `recipes/emoji/judge.py`, show the concept; the judge knows the drawings in their own colours, so the
real drawings in ink are beside them for what can be reached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks import report
from benchmarks.negative_prompts import share_of_hue
from fewstep.imaging.pixels import to_pixels
from recipes.adapters import ROWS, Adapters
from recipes.emoji import art
from recipes.emoji.judge import Judge

HUE = 217  # degrees; of the ink


def main(
    folder: Annotated[Path, typer.Option(help="Where the adapters were trained.")] = Path("build/adapters"),
    starter: Annotated[Path, typer.Option(help="Where the starter's recipe worked.")] = Path("build/starter"),
    count: Annotated[int, typer.Option(help="Concepts.")] = 96,
) -> None:
    """Paint, measure and write the table."""
    adapters, judge = Adapters(folder, starter), Judge(starter)
    known = set(judge.labels)
    labels = [label for label in adapters.held_out("ink") if label in known][:count]
    real = [Image.open(folder / "ink" / "held_out" / f"{label}.png").convert("RGB") for label in labels]
    rows = [{"model": "real drawings", "adapters": "in ink", "steps": 0} | _measured(judge, real, labels)]
    for model, names, steps in ROWS:
        images = adapters.paint(labels, model, names, steps, seed=0)
        row = {"model": model, "adapters": " + ".join(names) or "-", "steps": steps}
        rows.append(row | _measured(judge, images, labels))
        typer.echo(json.dumps(rows[-1]))
    values = {"concepts": len(labels), "rows": rows}
    line = report.command("adapters", count=count)
    report.write("adapters", line, values=values, title="The starter's adapters", text=_table(rows))


def _measured(judge: Judge, images: list[Image.Image], labels: list[str]) -> dict[str, float]:
    pixels = torch.cat([to_pixels(image, art.SIZE, art.SIZE) for image in images])
    ranks = judge.ranks(pixels, labels)
    shares = {f"top {n}": sum(rank < n for rank in ranks) / len(ranks) for n in (1, 5)}
    return {"ink": round(float(np.mean([share_of_hue(image, HUE) for image in images])), 3)} | {
        name: round(share, 3) for name, share in shares.items()
    }


def _table(rows: list[dict[str, object]]) -> str:
    lines = ["| model | adapters | steps | ink | top 1 | top 5 |", "| --- | --- | --: | --: | --: | --: |"]
    for row in rows:
        shares = (f"{row[name]:.0%}" for name in ("ink", "top 1", "top 5"))
        lines.append(f"| {row['model']} | {row['adapters']} | {row['steps'] or '-'} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
