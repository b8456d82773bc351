"""Kinds on white: one thing moved, in another colour or small; two things; a number of one thing."""

from __future__ import annotations

import random

from PIL import Image

from recipes.emoji.captions import of_drawing, spoken
from recipes.emoji.figures import Figure, fitted, mirrored, other_colour, paste
from recipes.emoji.sketch import CANVAS, Sketch, blank
from recipes.emoji.world import World

MARGIN = 2
GAP = 5


def moved(world: World, choose: random.Random) -> Sketch:
    """One drawing a little smaller, elsewhere, turned by up to six degrees, mirrored where nothing has a side."""
    figure = Figure(world, choose.choice(world.trained))
    scale, angle = choose.uniform(0.78, 1.0), choose.uniform(-6, 6)

    def picture() -> Image.Image:
        image = mirrored(figure, figure.world.sprite(figure.row), choose)
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        return anywhere(fitted(image, scale * CANVAS, scale * CANVAS), choose)

    return Sketch(picture, of_drawing(figure, choose))


def recoloured(world: World, choose: random.Random) -> Sketch | None:
    """One thing in a colour that it does not have."""
    figure = coloured(world, choose.choice(world.painted), choose)
    return None if figure is None else single(figure, choose)


def single(figure: Figure, choose: random.Random) -> Sketch:
    """One thing, in its colour, about as large as the picture."""
    scale = choose.uniform(0.84, 1.0)

    def picture() -> Image.Image:
        sprite = figure.sprite(scale * CANVAS, scale * CANVAS, choose)
        return anywhere(mirrored(figure, sprite, choose), choose)

    name = figure.name(choose)
    phrases = [figure.bare(), figure.a(name), figure.bare(name), f"{figure.a()} on white"]
    return Sketch(picture, spoken(phrases, figure.drawing.style), tuple(figure.combinations))


def small(world: World, choose: random.Random) -> Sketch:
    """One thing with much white around it."""
    figure = maybe_coloured(world, choose.choice(world.named), choose)
    size = choose.uniform(0.3, 0.5) * CANVAS
    word = choose.choice(("small", "tiny", "little"))

    def picture() -> Image.Image:
        return anywhere(figure.sprite(size, size, choose), choose)

    name = figure.name(choose)
    phrases = [with_word(figure, word), figure.a(name), f"a picture of {with_word(figure, word)}"]
    return Sketch(picture, spoken(phrases, figure.drawing.style), tuple(figure.combinations))


def with_word(figure: Figure, word: str) -> str:
    """ "a small orange pear"."""
    name = figure.bare()
    return figure.noun.a(f"{word} {name}")


def paired(world: World, choose: random.Random) -> Sketch | None:
    """Two things of one style, side by side or one above the other, a third of them in another colour."""
    first = choose.choice(world.things)
    style = world.rows[first].style
    second = choose.choice(world.in_style("things", style))
    figures = [maybe_coloured(world, row, choose) for row in (first, second)]
    a, b = figures
    if a.noun.key == b.noun.key:
        return None
    return pair(a, b, choose, stacked=choose.random() < 0.2)


def pair(a: Figure, b: Figure, choose: random.Random, *, stacked: bool) -> Sketch:
    """Two things, the first on the left of the second or above it."""
    figures, style = (a, b), a.drawing.style
    sizes = [choose.uniform(0.9, 1.0) for _ in figures]

    def picture() -> Image.Image:
        canvas = blank()
        room = (CANVAS - 2 * MARGIN - GAP) / 2
        width, height = (CANVAS * 0.8, room) if stacked else (room, CANVAS * 0.8)
        for place, (figure, size) in enumerate(zip(figures, sizes, strict=True)):
            sprite = mirrored(figure, figure.sprite(size * width, size * height, choose), choose)
            across, along = (sprite.height, sprite.width) if stacked else (sprite.width, sprite.height)
            near = MARGIN + place * (room + GAP) + (room - across) / 2
            side = (CANVAS - along) / 2 + choose.uniform(-4, 4)
            paste(canvas, sprite, *((side, near) if stacked else (near, side)))
        return canvas

    m, n = a.name(choose), b.name(choose)
    phrases = [
        f"{a.bare()} and {b.bare()}",
        f"{a.a()} and {b.a()}",
        f"{a.a(m)} and {b.a(n)}",
        f"{a.a(m)} above {b.a(n)}" if stacked else choose.choice((f"{b.a()} and {a.a()}", f"{a.a()} next to {b.a()}")),
        f"{b.a()} below {a.a()}" if stacked else f"{a.a(m)} on the left and {b.a(n)} on the right",
    ]
    together = (*a.combinations, *b.combinations, (a.noun.key, b.noun.key))
    return Sketch(picture, spoken(phrases, style), together)


ROWS = {2: ((2,), (1, 1)), 3: ((1, 2), (2, 1), (3,)), 4: ((2, 2), (4,)), 5: ((2, 3), (3, 2)), 6: ((3, 3),)}


def counted(world: World, choose: random.Random) -> Sketch:
    """Two to six of one thing, a third of the times in another colour."""
    figure = maybe_coloured(world, choose.choice(world.countable), choose)
    (number,) = choose.choices((2, 3, 4, 5, 6), (0.34, 0.32, 0.2, 0.08, 0.06))
    return several(figure, number, choose)


def several(figure: Figure, number: int, choose: random.Random) -> Sketch:
    """So many of one thing, in rows."""
    rows = choose.choice(ROWS[number])

    def picture() -> Image.Image:
        canvas, widest = blank(), max(rows)
        width, height = (CANVAS - 2 * MARGIN) / widest - GAP, (CANVAS - 2 * MARGIN) / len(rows) - GAP
        sprite = mirrored(figure, figure.sprite(width, height, choose), choose)
        across, down = min(width, sprite.width * 1.25) + GAP, min(height, sprite.height * 1.25) + GAP
        for line, many in enumerate(rows):
            for place in range(many):
                x = CANVAS / 2 + (place - many / 2) * across + (across - sprite.width) / 2
                y = CANVAS / 2 + (line - len(rows) / 2) * down + (down - sprite.height) / 2
                paste(canvas, sprite, x, y)
        return canvas

    name = figure.name(choose)
    if name.startswith("~"):  # a name without an article cannot be counted either
        name = figure.names()[0]
    phrases = [figure.several(number), figure.several(number, name), f"a picture of {figure.several(number)}"]
    numbered = (figure.several(number).split()[0], figure.noun.key)
    return Sketch(picture, spoken(phrases, figure.drawing.style), (*figure.combinations, numbered))


def coloured(world: World, row: int, choose: random.Random) -> Figure | None:
    """In a colour that it does not have; None where it can take none."""
    colour = other_colour(world, row, choose)
    return Figure(world, row, colour) if colour else None


def maybe_coloured(world: World, row: int, choose: random.Random) -> Figure:
    """A third of the times in another colour, where it can take one."""
    return (choose.random() < 1 / 3 and coloured(world, row, choose)) or Figure(world, row)


def anywhere(sprite: Image.Image, choose: random.Random) -> Image.Image:
    """Somewhere on white, all of it inside."""
    canvas = blank()
    x, y = (choose.uniform(0, CANVAS - side) for side in sprite.size)
    paste(canvas, sprite, x, y)
    return canvas
