"""What packing the starter's weights costs: the same prompts from the same noise, by the packed and the whole weights.

    python -m benchmarks.packing build/starter/export      (writes benchmarks/results/packing.md)

The whole weights are the folder that the starter's recipe ends in. Differences are paired by prompt and noise; the
interval is that of 95 % of 1,000 bootstrap draws over prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

import fewstep
from benchmarks import report
from fewstep.evaluate import bootstrap
from fewstep.evaluate.features import Eye, Seen
from fewstep.evaluate.metrics.words import retrieved
from fewstep.evaluate.moments import Moments, frechet_distance
from fewstep.evaluate.prompts import read_prompts
from fewstep.evaluate.reference import read_reference
from fewstep.imaging.pixels import to_pixels
from fewstep.models.model import Model

WAYS = (("starter", ".", 1), ("starter", ".", 4), ("starter-teacher", "teacher", 8))
DRAWS = 1000
EACH = 4  # pictures a prompt
BATCH = 6  # prompts


def main(
    whole: Annotated[Path, typer.Argument(help="The model folder with the weights as they were trained.")],
    pictures: Annotated[int, typer.Option(help="Of each way.")] = 2000,
) -> None:
    """Paint with both, and write the table."""
    eye = Eye.load()
    real = Moments.of(read_reference("builtin", eye, (128, 128)).features)
    prompts = list(read_prompts().first(pictures // EACH).texts)
    words = eye.read(prompts)
    draws = bootstrap.weights(len(words), DRAWS)
    lines = ["| | prompt found, whole | packed | difference | Fréchet distance, whole | packed |", "|" + "---|" * 6]
    for name, folder, steps in WAYS:
        seen = [looked(eye, fewstep.load(model, device="cpu"), prompts, steps) for model in (whole / folder, name)]
        targets = torch.arange(len(words)).repeat_interleave(EACH)
        found = [retrieved(each.embeddings, words, targets).view(-1, EACH).mean(1) for each in seen]
        apart = bootstrap.mean_of(found[1] - found[0], draws)
        fd = [frechet_distance(real, Moments.of(each.features)) for each in seen]
        lines.append(
            f"| {name}, {steps} steps | {found[0].mean():.1%} | {found[1].mean():.1%} | {apart.value:+.1%} "
            f"({apart.low:+.1%} to {apart.high:+.1%}) | {fd[0]:.1f} | {fd[1]:.1f} |"
        )
        typer.echo(lines[-1])
    text = "\n".join([f"{EACH * len(prompts)} pictures of each, paired.", "", *lines])
    line = report.command("packing", "WHOLE", pictures=pictures)
    report.write("packing", line, title="What packing the weights costs", text=text)


def looked(eye: Eye, model: Model, prompts: list[str], steps: int) -> Seen:
    parts = []
    for start in track(range(0, len(prompts), BATCH), description=f"{model.name}, {steps} steps"):
        some = prompts[start : start + BATCH]
        images = fewstep.text2image(model, some, num_images=EACH, steps=steps, seed=EACH * start, batch_size=24)
        parts.append(eye.look(torch.cat([to_pixels(image, 128, 128) for image in images])))
    return Seen(torch.cat([each.features for each in parts]), torch.cat([each.embeddings for each in parts]))


if __name__ == "__main__":
    typer.run(main)
