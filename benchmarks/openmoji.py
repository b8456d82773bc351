"""What the adapter `openmoji` does: whether its pictures are in OpenMoji's style, and whether they show what was asked.

    python -m recipes.starter art judge && python -m recipes.adapters openmoji_art openmoji     (once)
    python -m benchmarks.openmoji          (writes benchmarks/results/openmoji.json and .md)

Concepts that were shown in the style, and concepts that never were, are painted from the same noise by every
combination of model and adapters. `style` is the share of pictures whose nearest real drawing, among OpenMoji's and the
starter's own three styles, is one of OpenMoji's; `top 1` and `top 5` tell whether the concept is among the nearest of
OpenMoji's drawings. Both look through `recipes/emoji/judge.py`, which knows no OpenMoji. The first row is what the
starter's autoencoder makes of the real drawings: nothing that it decodes can be better.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor

import fewstep
from benchmarks import report
from fewstep.imaging.pixels import to_pixels
from recipes.adapters import OPENMOJI_ROWS, Adapters
from recipes.emoji import art
from recipes.emoji.judge import Judge

AT_ONCE = 64


class Gallery:
    """All of OpenMoji's drawings beside the starter's own, as the judge sees them."""

    def __init__(self, folder: Path, starter: Path) -> None:
        self.judge = Judge(starter)
        files = {path.stem: path for path in sorted((folder / "openmoji.art").glob("*/*.png"))}
        self.labels = list(files)
        self.pixels = as_pixels([Image.open(path).convert("RGB") for path in files.values()])
        self.openmoji = torch.cat([self.judge.features(some) for some in self.pixels.split(AT_ONCE)])

    def measured(self, pixels: Tensor, labels: list[str]) -> dict[str, float]:
        features = torch.cat([self.judge.features(some) for some in pixels.split(AT_ONCE)])
        theirs, ours = features @ self.openmoji.T, features @ self.judge.known.T
        nearest = [[self.labels[i] for i in row] for row in theirs.topk(5).indices.tolist()]
        return {"style": (theirs.amax(1) > ours.amax(1)).float().mean().item()} | {
            f"top {n}": sum(label in row[:n] for label, row in zip(labels, nearest, strict=True)) / len(labels)
            for n in (1, 5)
        }


def main(
    folder: Annotated[Path, typer.Option(help="Where the adapters were trained.")] = Path("build/adapters"),
    starter: Annotated[Path, typer.Option(help="Where the starter's recipe worked.")] = Path("build/starter"),
    count: Annotated[int, typer.Option(help="Concepts, of those that were seen and of those that were not.")] = 96,
) -> None:
    """Paint, measure and write the table."""
    adapters, gallery = Adapters(folder, starter), Gallery(folder, starter)
    seen = sorted(path.stem for path in (folder / "openmoji.art" / "seen").glob("*.png"))
    parts = {"seen": seen[:: len(seen) // count][:count], "held out": adapters.held_out("openmoji.art")[:count]}
    rows = []
    for model, names, steps in (("autoencoder", (), 0), *OPENMOJI_ROWS):
        row: dict[str, object] = {"model": model, "adapters": " + ".join(names) or "-", "steps": steps}
        for part, labels in parts.items():
            if steps:
                pixels = as_pixels(adapters.paint(labels, model, names, steps, seed=0))
            else:
                pixels = decoded(gallery.pixels[[gallery.labels.index(label) for label in labels]])
            row |= {f"{part}: {name}": round(share, 3) for name, share in gallery.measured(pixels, labels).items()}
        rows.append(row)
        typer.echo(json.dumps(row))
    values, line = {"concepts": count, "rows": rows}, report.command("openmoji", count=count)
    report.write("openmoji", line, values=values, title="The adapter openmoji", text=_table(rows))


def as_pixels(images: list[Image.Image]) -> Tensor:
    """(N, 3, 128, 128) in [-1, 1]."""
    return torch.cat([to_pixels(image, art.SIZE, art.SIZE) for image in images])


def decoded(pixels: Tensor) -> Tensor:
    """Through the starter's autoencoder and back."""
    model = fewstep.load("starter", device="cpu")
    return torch.cat([model.decode(model.encode_images(some)) for some in pixels.split(AT_ONCE)])


def _table(rows: list[dict[str, object]]) -> str:
    measures = [name for name in rows[0] if ": " in name]
    lines = [
        f"| model | adapters | steps | {' | '.join(measures)} |",
        f"| --- | --- | --: |{' --: |' * len(measures)}",
    ]
    for row in rows:
        shares = (f"{row[name]:.0%}" for name in measures)
        lines.append(f"| {row['model']} | {row['adapters']} | {row['steps'] or '-'} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
