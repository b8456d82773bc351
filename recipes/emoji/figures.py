"""One thing of a composition: its picture at the size that it is shown at, and what it is called."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.emoji.drawings import Drawing
from recipes.emoji.nouns import Noun, plural, speaks_of_colour, without_colour
from recipes.emoji.paint import COLOURS, recoloured
from recipes.emoji.world import World, takes_colour

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
SHAPELESS = 0.15  # a thing that is paint all over is but a blot in black
LOST = 0.3  # and lost on white in white


@dataclass(frozen=True)
class Figure:
    """A drawing that was chosen, in its own colour ("") or another."""

    world: World
    row: int
    colour: str = ""

    @property
    def drawing(self) -> Drawing:
        return self.world.rows[self.row]

    @property
    def noun(self) -> Noun:
        found = self.world.nouns[self.row]
        assert found is not None
        return found

    @property
    def combinations(self) -> list[tuple[str, ...]]:
        """What it combines by itself: a colour and a thing."""
        return [(self.colour, without_colour(self.noun.key))] if self.colour else []

    def sprite(self, width: float, height: float, choose: random.Random) -> Image.Image:
        """Its ink, scaled to fit, in its colour; the colour varies a little."""
        return self.coloured(fitted(self.world.sprite(self.row), width, height), choose)

    def coloured(self, image: Image.Image, choose: random.Random) -> Image.Image:
        paint = self.drawing.paint
        if not self.colour or paint is None:
            return image
        return Image.fromarray(recoloured(np.asarray(image), paint, shade_of(self.colour, choose)))

    def names(self) -> list[str]:
        """What it is called, the label's own name first."""
        every = [self.noun.one, *self.noun.others]
        if not self.colour:
            return every
        bare = [without_colour(name) for name in every]
        return list(dict.fromkeys(name for name in bare if not speaks_of_colour(name))) or bare[:1]

    def name(self, choose: random.Random) -> str:
        """One of its names, mostly the first."""
        names = self.names()
        return names[0] if choose.random() < 0.6 else choose.choice(names)

    def a(self, name: str | None = None) -> str:
        """ "an orange pear"."""
        return self.noun.a(name or self.names()[0], self.colour)

    def bare(self, name: str | None = None) -> str:
        """ "orange pear"."""
        return f"{self.colour} {(name or self.names()[0]).removeprefix('~')}".strip()

    def several(self, number: int, name: str | None = None) -> str:
        """ "three orange pears"."""
        words = [NUMBERS[number], self.colour, plural(name or self.names()[0])]
        return " ".join(word for word in words if word)


def fitted(image: Image.Image, width: float, height: float) -> Image.Image:
    """Scaled, its shape kept, to fit into so many pixels."""
    factor = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def shrunk(image: Image.Image, factor: float) -> Image.Image:
    """Scaled by a factor of at most one."""
    return fitted(image, image.width * factor, image.height * factor) if factor < 1 else image


def shade_of(colour: str, choose: random.Random) -> tuple[float, float, float]:
    """A colour word's RGB, a little lighter or darker, and of another tint where it is no grey."""
    all_alike = choose.gauss(0, 6)
    own = 0 if colour in ("grey", "white", "black") else 5
    red, green, blue = (min(255.0, max(0.0, c + all_alike + choose.gauss(0, own))) for c in COLOURS[colour])
    return red, green, blue


def other_colour(world: World, row: int, choose: random.Random) -> str | None:
    """A colour word that the drawing does not have and can take; None where it cannot take any.

    What would be called as another drawing is ("red heart") is left to that one.
    """
    drawing, noun = world.rows[row], world.nouns[row]
    paint = drawing.paint
    if noun is None or paint is None or not takes_colour(drawing):
        return None
    bare = without_colour(noun.one)
    words = [word for word in COLOURS if word != paint.word and f"{word} {bare}" not in world.all_names]
    if paint.plain < SHAPELESS:
        words = [word for word in words if word != "black"]
    if paint.plain < LOST:
        words = [word for word in words if word != "white"]
    return choose.choice(words) if words else None


def paste(canvas: Image.Image, sprite: Image.Image, left: float, top: float) -> None:
    """Lay a sprite onto an opaque picture."""
    canvas.paste(sprite, (round(left), round(top)), sprite)


def mirrored(figure: Figure, image: Image.Image, choose: random.Random) -> Image.Image:
    """Every other time turned left to right, where nothing has a side: no writing, no clock, no pointing hand."""
    drawing = figure.drawing
    sided = drawing.group not in (0, 3, 4) or "left" in drawing.label or "right" in drawing.label
    if sided or choose.random() < 0.5:
        return image
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
