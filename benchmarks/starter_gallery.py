"""The starter's contact sheets, for docs/starter.md: the same prompts and noise under every sampler and step count.

python -m benchmarks.starter_gallery          (writes docs/images/*.webp)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw

import fewstep
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.models.model import Model
from fewstep.pipelines.text2image import text2image
from recipes.emoji import art, sheets

IMAGES = Path(__file__).parents[1] / "docs" / "images"
TILE, MARGIN = 72, 190
HELD_OUT = 24  # pictures that training has not seen
CONCEPTS = (
    *("cat face", "dog face", "frog", "owl", "lion", "penguin", "fish", "butterfly", "tulip", "evergreen tree"),
    *("red apple", "strawberry", "pizza", "birthday cake", "hamburger", "sun", "snowman", "rainbow", "red heart"),
    *("star", "grinning face", "crying face", "rocket", "automobile", "sailboat", "house", "guitar", "violin"),
    *("soccer ball", "crown", "key", "alarm clock"),
)
FREE = (
    *("a blue cat", "sad robot", "strawberry cake", "feline", "automobile", "puppy", "joyful", "ocean"),
    *("a green heart", "purple apple", "a happy sun", "snowy house", "yellow bird", "infant", "physician", "vehicle"),
)
SMALL: dict[str, Any] = {"quality": 70, "method": 6}
FEW = (("tcd", 1), ("tcd", 2), ("tcd", 4), ("tcd", 8), ("dpm++", 25))
ALL = (*FEW, *((sampler, steps) for sampler in ("ddim", "dpm++") for steps in (1, 2, 4, 8)))


def main(folder: Annotated[Path, typer.Option(help="Where the recipe built the art.")] = Path("build/starter")) -> None:
    """Paint the sheets."""
    starter, teacher = fewstep.load("starter"), fewstep.load("starter-teacher")
    IMAGES.mkdir(parents=True, exist_ok=True)
    pictures, pixels = art.load(folder)
    styles = tuple(art.STYLES)
    prompts = [f"{c}, {styles[(i + j) % 3]} style" for i, c in enumerate(CONCEPTS) for j in range(2)]
    _sheet(starter, teacher, prompts, ALL).save(IMAGES / "samplers.webp", **SMALL)
    _sheet(starter, teacher, FREE, FEW).save(IMAGES / "free-prompts.webp", **SMALL)
    held_out = [i for i, picture in enumerate(pictures) if picture.held_out]
    chosen = random.Random(0).sample(held_out, HELD_OUT)
    prompts = [f"{pictures[i].label}, {pictures[i].style} style" for i in chosen]
    real = [Image.fromarray(pixels[i]) for i in chosen]
    _sheet(starter, teacher, prompts, FEW, ("the real one", real)).save(IMAGES / "held-out.webp", **SMALL)
    contact_sheet(text2image(starter, sheets.PROMPTS, steps=4, seed=0), columns=8).save(
        IMAGES / "four-steps.webp", **SMALL
    )


def _sheet(
    starter: Model,
    teacher: Model,
    prompts: Sequence[str],
    columns: Sequence[tuple[str, int]],
    first: tuple[str, list[Image.Image]] | None = None,
) -> Image.Image:
    """A row for each prompt, a column for each sampler and step count, named at the head."""
    filled = [] if first is None else [first]
    for sampler, steps in columns:
        model, who = (starter, "STARTER") if sampler == "tcd" else (teacher, sampler.upper())
        filled.append((f"{who} {steps}", text2image(model, list(prompts), steps=steps, seed=0, sampler=sampler)))
    sheet = Image.new("RGB", (MARGIN + TILE * len(filled), 16 + TILE * len(prompts)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, images) in enumerate(filled):
        draw.text((MARGIN + column * TILE + 4, 2), title, fill="black")
        for row, image in enumerate(images):
            tile = image.resize((TILE - 2, TILE - 2), Image.Resampling.LANCZOS)
            sheet.paste(tile, (MARGIN + column * TILE, 16 + row * TILE))
    for row, prompt in enumerate(prompts):
        draw.text((4, 16 + row * TILE + TILE // 2 - 6), prompt[:32], fill="black")
    return sheet


if __name__ == "__main__":
    typer.run(main)
