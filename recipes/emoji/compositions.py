"""Pictures in which words combine, drawn from (seed, index): colours, pairs, numbers, hats, places.

world = World.open(folder)
compose(world, seed=0, index=17)            the same on every machine and in every process
compose_held_out(world, "pairs", 96, 0)     only combinations that training never shows
draw_shard(world, 0, start=0, count=4096)   arrays for a training
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.emoji import combinations, places, scenes, wearing
from recipes.emoji.captions import of_drawing
from recipes.emoji.figures import Figure
from recipes.emoji.layouts import counted, moved, paired, recoloured, small
from recipes.emoji.sketch import CANVAS, Sketch, on_white
from recipes.emoji.world import World

TRIES = 200


@dataclass(frozen=True, eq=False)
class Composition:
    """A picture with what is said of it.

    pixels                 uint8 (128, 128, 3), RGB
    captions               four to six
    kind                   one of `KINDS`
    held_out_combination   whether it shows a combination that training never shows
    """

    pixels: np.ndarray
    captions: tuple[str, ...]
    kind: str
    held_out_combination: bool


def plain(world: World, choose: random.Random) -> Sketch | None:
    """A drawing as it is."""
    return _whole(Figure(world, choose.choice(world.trained)), choose)


def _whole(figure: Figure, choose: random.Random) -> Sketch:
    return Sketch(lambda: on_white(_canvas(figure)), of_drawing(figure, choose))


def _canvas(figure: Figure) -> Image.Image:
    return Image.fromarray(figure.world.pixels(figure.row)).resize((CANVAS, CANVAS), Image.Resampling.LANCZOS)


Kind = Callable[[World, random.Random], Sketch | None]
KINDS: dict[str, tuple[Kind, float]] = {  # how each is drawn, and its share of all pictures
    "plain": (plain, 0.20),
    "moved": (moved, 0.16),
    "recoloured": (recoloured, 0.20),
    "pairs": (paired, 0.13),
    "counts": (counted, 0.07),
    "wearing": (wearing.wearing, 0.08),
    "small": (small, 0.03),
    "places": (places.placed, 0.06),
    "together": (scenes.together, 0.07),
}
COMBINED = ("recoloured", "pairs", "counts", "wearing", "places", "together")  # whose parts can be held out


def compose(world: World, seed: int, index: int) -> Composition:
    """The picture at `index` of an endless row; nothing that is held out is in it."""
    choose = random.Random(f"composition {seed} {index}")
    (kind,) = choose.choices(list(KINDS), [share for _, share in KINDS.values()])
    return drawn(world, kind, choose, held_out=False)


def compose_held_out(world: World, kind: str, count: int, seed: int) -> list[Composition]:
    """Pictures of one kind, each with a combination that training never shows; their drawings are trained ones."""
    if kind not in COMBINED:
        raise ValueError(f"combinations are held out in {', '.join(COMBINED)}, not in {kind!r}")
    every = (random.Random(f"held out {kind} {seed} {index}") for index in range(count))
    return [drawn(world, kind, choose, held_out=True) for choose in every]


def drawn(world: World, kind: str, choose: random.Random, *, held_out: bool) -> Composition:
    """Drawn again until it shows, or does not show, something held out."""
    draw, _ = KINDS[kind]
    for _ in range(TRIES):
        sketch = draw(world, choose)
        if sketch is not None and any(combinations.held_out(*each) for each in sketch.combinations) == held_out:
            return Composition(np.asarray(sketch.picture()), sketch.captions, kind, held_out)
    raise ValueError(f"no picture of the kind {kind!r} came of {TRIES} tries: too few drawings have what it takes")


def draw_shard(world: World, seed: int, start: int, count: int) -> tuple[np.ndarray, list[tuple[str, ...]], list[str]]:
    """Pictures `start` to `start + count` of the row of `seed`: pixels uint8 (count, 128, 128, 3), captions, kinds."""
    pixels = np.empty((count, CANVAS, CANVAS, 3), np.uint8)
    captions, kinds = [], []
    for place in range(count):
        drawn = compose(world, seed, start + place)
        pixels[place] = drawn.pixels
        captions.append(drawn.captions)
        kinds.append(drawn.kind)
    return pixels, captions, kinds


def evaluation_sets(world: World, count: int = 96, plain_count: int = 264) -> dict[str, list[Composition]]:
    """What a training is watched by, always the same: held-out combinations by kind, drawings held out and trained."""
    sets = {kind: compose_held_out(world, kind, count, seed=0) for kind in COMBINED}
    sets["held-out drawings"] = list(_drawings(world, world.held_out, plain_count))
    sets["trained drawings"] = list(_drawings(world, world.trained, plain_count))
    return sets


def _drawings(world: World, rows: list[int], count: int) -> Iterator[Composition]:
    choose = random.Random("evaluation drawings")
    for row in choose.sample(rows, min(count, len(rows))):
        sketch = _whole(Figure(world, row), choose)
        yield Composition(np.asarray(sketch.picture()), sketch.captions, "plain", False)
