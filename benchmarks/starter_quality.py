"""Does the starter draw what it was asked for? Retrieval under an independent network, by sampler and step count.

    python -m recipes.starter art judge           (once: builds the art, trains the judging network)
    python -m benchmarks.starter_quality          (writes benchmarks/results/starter_quality.json and .md)

Every row paints the same prompts from the same noise. `top 1` is the share of pictures whose nearest real drawing,
under `recipes/emoji/judge.py`, shows the prompt's concept; `top 5` asks the nearest five concepts.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

import fewstep
from benchmarks import report
from fewstep.imaging.pixels import to_pixels
from fewstep.models.lean.part import twin_of
from fewstep.models.model import Model
from fewstep.pipelines.generate import generate
from fewstep.pipelines.request import Request
from recipes.emoji import art
from recipes.emoji.autoencoder import Pixels, psnr, reconstruct
from recipes.emoji.judge import Judge


def main(
    count: Annotated[int, typer.Option(help="Trained and held-out prompts, each.")] = 128,
    folder: Annotated[Path, typer.Option(help="Where the recipe built the art and the judge.")] = Path("build/starter"),
) -> None:
    """Measure and write the table."""
    pictures, _ = art.load(folder)
    judge = Judge(folder)
    known = set(judge.labels)
    sets = {
        name: random.Random(0).sample(candidates, min(count, len(candidates)))
        for name, candidates in {
            "trained": [p for p in pictures if not p.held_out],
            "held out": [p for p in pictures if p.held_out and p.label in known],
        }.items()
    }
    starter, teacher = fewstep.load("starter"), fewstep.load("starter-teacher")
    rows = [_real(judge, folder)]
    for model, sampler, steps in (
        *((starter, name, n) for name in ("tcd", "lcm") for n in (1, 2, 4, 8)),
        *((teacher, name, n) for name in ("ddim", "dpm++") for n in (1, 2, 4, 8, 25)),
    ):
        rows.append(_row(judge, model, sampler, steps, sets))
        typer.echo(json.dumps(rows[-1]))
    held_out = Pixels(folder, held_out=True)
    x = held_out[slice(0, len(held_out))]
    values = {
        "model": starter.origin.hash,
        "prompts": {name: len(chosen) for name, chosen in sets.items()},
        "autoencoder_psnr_held_out": float(psnr(reconstruct(twin_of(starter.autoencoder.module), x), x).mean()),
        "rows": rows,
    }
    line = report.command("starter_quality", count=count)
    report.write("starter_quality", line, values=values, title="Does the starter draw it?", text=_table(rows))


def _real(judge: Judge, folder: Path) -> dict[str, object]:
    """The ceiling: real held-out drawings, which the judge never saw."""
    pixels = Pixels(folder, held_out=True)
    keep = [i for i, picture in enumerate(pixels.pictures) if picture.label in set(judge.labels)]
    ranks = judge.ranks(pixels[torch.tensor(keep)], [pixels.pictures[i].label for i in keep])
    return {"model": "real drawings", "sampler": "-", "steps": 0, "held out": _shares(ranks)}


def _row(judge: Judge, model: Model, sampler: str, steps: int, sets: dict[str, list[art.Picture]]) -> dict[str, object]:
    row: dict[str, object] = {"model": model.name, "sampler": sampler, "steps": steps}
    started, painted = time.perf_counter(), 0
    for name, chosen in sets.items():
        prompts = tuple(f"{picture.label}, {picture.style} style" for picture in chosen)
        request = Request(prompts, seeds=tuple(range(len(prompts))), steps=steps, sampler=sampler)
        images = generate(model, request, batch_size=32)
        painted += len(images)
        pixels = torch.cat([to_pixels(image, art.SIZE, art.SIZE) for image in images])
        row[name] = _shares(judge.ranks(pixels, [picture.label for picture in chosen]))
    row["seconds_per_picture"] = round((time.perf_counter() - started) / painted, 4)
    return row


def _shares(ranks: list[int]) -> dict[str, float]:
    return {f"top {n}": round(sum(rank < n for rank in ranks) / len(ranks), 3) for n in (1, 5)}


def _table(rows: list[dict[str, object]]) -> str:
    lines = [
        "| model | sampler | steps | trained: top 1 | top 5 | held out: top 1 | top 5 |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        cells = [str(row["model"]), str(row["sampler"]), str(row["steps"] or "-")]
        for name in ("trained", "held out"):
            shares = row.get(name, {})
            assert isinstance(shares, dict)
            cells += [f"{shares[key]:.0%}" if key in shares else "-" for key in ("top 1", "top 5")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
