"""Sheets that anybody can open: pictures of each kind of composition with what is said of them."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw

from recipes.emoji.compositions import KINDS, Composition, drawn
from recipes.emoji.sketch import CANVAS
from recipes.emoji.world import World

COLUMNS, COUNT = 8, 48
WIDTH, TEXT = 152, 44  # of a cell, and the height below a picture for its caption


def write(folder: Path, target: Path, seed: int = 0) -> None:
    """One PNG file a kind into `target`, drawn from what `drawings.build` made in `folder`."""
    world = World.open(folder)
    target.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        every = (drawn(world, kind, random.Random(f"sheet {kind} {seed} {i}"), held_out=False) for i in range(COUNT))
        sheet(every).save(target / f"{kind}.png")


def sheet(compositions: Iterable[Composition]) -> Image.Image:
    """Each with one of its captions, the captions in turn."""
    every = list(compositions)
    lines = -(-len(every) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * WIDTH, lines * (CANVAS + TEXT)), "white")
    pen = ImageDraw.Draw(canvas)
    for place, each in enumerate(every):
        x, y = place % COLUMNS * WIDTH, place // COLUMNS * (CANVAS + TEXT)
        canvas.paste(Image.fromarray(each.pixels), (x, y))
        pen.rectangle((x, y, x + CANVAS, y + CANVAS), outline="#dddddd")
        caption = each.captions[place % len(each.captions)]
        pen.text((x, y + CANVAS + 2), textwrap.fill(caption, 25), fill="black")
    return canvas
