"""What the starter's text encoder makes of words that no caption holds: their nearest concepts.

python -m benchmarks.starter_words            (writes benchmarks/results/starter_words.md)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional

import fewstep
from benchmarks import report
from fewstep.models.model import Model
from recipes.emoji import art

WORDS = (
    *("feline", "puppy", "automobile", "joyful", "sorrowful", "physician", "infant", "spaceship", "seashore"),
    *("vessel", "blaze", "dwelling", "cutlery", "reptile", "monarch", "melody"),
)


def main(folder: Annotated[Path, typer.Option(help="Where the recipe built the art.")] = Path("build/starter")) -> None:
    """Write the table; a word that a caption does hold is left out and named."""
    pictures, _ = art.load(folder)
    held = {word for picture in pictures for caption in picture.captions() for word in caption.replace(",", "").split()}
    unseen = [word for word in WORDS if word not in held]
    labels = sorted({picture.label for picture in pictures})
    model = fewstep.load("starter")
    near = (pooled(model, unseen) @ pooled(model, labels).T).topk(4).indices.tolist()
    rows = [f"| {word} | {', '.join(labels[i] for i in row)} |" for word, row in zip(unseen, near, strict=True)]
    table = "\n".join(["| word | nearest concepts |", "| --- | --- |", *rows])
    report.write("starter_words", report.command("starter_words"), title="Words that no caption holds", text=table)
    typer.echo(table)
    typer.echo(f"in some caption, so left out: {', '.join(sorted(set(WORDS) - set(unseen))) or 'none'}")


def pooled(model: Model, texts: list[str]) -> Tensor:
    """Pooled states (N, 384) of unit length."""
    states = [model.encode_text(texts[i : i + 256]).pooled for i in range(0, len(texts), 256)]
    return functional.normalize(torch.cat([state for state in states if state is not None]), dim=-1)


if __name__ == "__main__":
    typer.run(main)
