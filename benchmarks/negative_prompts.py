"""Do negative prompts work on a distilled model? An LCM-LoRA that learnt no guidance is guided when it samples.

    python -m recipes.starter                     (once: the art, the latents)
    python -m benchmarks.negative_prompts

Things that have a colour of their own are painted as they are, with their colour as the negative prompt, and, for
comparison, with a colour that they do not have. Measured is the share of the drawn pixels that have the own colour's
hue. A negative prompt that works lowers it where it names the colour, and not where it names another. The adapters
differ in the share of empty captions that they learnt from. Writes benchmarks/results/negative_prompts.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

import fewstep
from benchmarks import report
from fewstep.core.settings import Value
from fewstep.models.model import Model
from fewstep.pipelines.text2image import text2image
from fewstep.train.defaults import changed, default_config
from fewstep.train.run import train
from recipes.emoji.cache import STARTER_TEACHER, as_training_cache

HUES = {"red": 0, "orange": 30, "yellow": 55, "green": 115, "blue": 210}  # degrees
WITHIN = 25
THINGS = {
    "red": ("red heart", "tomato", "cherries", "strawberry"),
    "orange": ("tangerine", "jack-o-lantern", "basketball", "carrot"),
    "yellow": ("lemon", "banana", "sun", "star"),
    "green": ("frog", "cactus", "four leaf clover", "green salad"),
    "blue": ("blue book", "spouting whale", "jeans", "droplet"),
}
OTHER = {"red": "blue", "orange": "blue", "yellow": "blue", "green": "red", "blue": "red"}


def main(
    starter: Annotated[Path, typer.Option(help="Where the starter's recipe worked.")] = Path("build/starter"),
    work: Annotated[Path, typer.Option(help="For the runs; kept.")] = Path("build/negative-prompts"),
    pictures: Annotated[int, typer.Option(help="Paths that each adapter sees.")] = 400,
    seeds: Annotated[int, typer.Option(help="Pictures of each thing.")] = 4,
    guidance_scale: Annotated[float, typer.Option(help="Of all; without it negative prompts do nothing.")] = 3.0,
) -> None:
    """Train two adapters, paint, measure, and write the numbers."""
    cache = as_training_cache(starter, work / "starter.cache")
    models = {"teacher, 25 steps": (fewstep.load(STARTER_TEACHER, device="cpu"), 25)}
    for empty in (0.0, 0.1):
        file = _adapter(work / f"empty-{empty:g}", cache, empty, pictures)
        name = f"adapter, {empty:.0%} empty captions, 4 steps"
        models[name] = (fewstep.load(STARTER_TEACHER, device="cpu", loras=[file]), 4)
    rows = {name: _shares(model, steps, seeds, guidance_scale) for name, (model, steps) in models.items()}
    settings = {"pictures": pictures, "seeds": seeds, "guidance_scale": guidance_scale}
    report.write("negative_prompts", report.command("negative_prompts", **settings), values=settings | {"rows": rows})
    typer.echo(json.dumps(rows, indent=2))


def _adapter(folder: Path, cache: Path, empty: float, pictures: int) -> Path:
    base = default_config("distill", STARTER_TEACHER, str(cache), lora=True, target="path")
    values: dict[str, Value] = {"objective.w_range": (0.0, 0.0), "objective.empty": empty, "fit.pictures": pictures,
              "fit.batch_size": 6, "fit.lr": 5e-4, "lora.rank": 32, "watch.every": pictures,
              "watch.prompts": ("red heart",)}  # fmt: skip
    train(changed(base, values), folder)
    return folder


def _shares(model: Model, steps: int, seeds: int, guidance_scale: float) -> dict[str, float]:
    """The mean share of the own colour: without a negative prompt, with that colour, and with another."""
    found: dict[str, list[float]] = {"none": [], "own colour": [], "another colour": []}
    for colour, things in THINGS.items():
        negatives = {"none": "", "own colour": colour, "another colour": OTHER[colour]}
        for kind, negative in negatives.items():
            images = text2image(
                model,
                [thing for thing in things for _ in range(seeds)],
                steps=steps,
                seed=0,
                guidance_scale=guidance_scale,
                negative_prompt=negative,
                batch_size=16,
            )
            found[kind] += [share_of_hue(image, HUES[colour]) for image in images]
    return {kind: round(float(np.mean(values)), 4) for kind, values in found.items()}


def share_of_hue(image: Image.Image, hue: float) -> float:
    """The share of the drawn pixels (those with colour) whose hue lies within `WITHIN` degrees of `hue`."""
    h, s, v = (np.asarray(channel, dtype=float) for channel in image.convert("HSV").split())
    drawn = (s > 60) & (v > 50)
    distance = np.abs((h * 360 / 255 - hue + 180) % 360 - 180)
    return float((distance[drawn] < WITHIN).mean()) if drawn.any() else 0.0


if __name__ == "__main__":
    typer.run(main)
