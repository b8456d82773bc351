"""Things in places and together: coloured ground, night, rain, snow, grass; on, in, under and in front of things."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from recipes.emoji.captions import spoken
from recipes.emoji.figures import mirrored, paste, shrunk
from recipes.emoji.layouts import maybe_coloured
from recipes.emoji.nouns import with_article
from recipes.emoji.paint import COLOURS
from recipes.emoji.sketch import CANVAS, Sketch, blank
from recipes.emoji.synonyms import listed
from recipes.emoji.world import World

GROUNDS = [word for word in COLOURS if word != "white"]


def places(world: World, choose: random.Random) -> Sketch | None:
    """One thing on coloured ground or in weather."""
    figure = maybe_coloured(world, choose.choice(world.things), choose)
    own = figure.colour or (figure.drawing.paint.word if figure.drawing.paint else "")
    if choose.random() < 0.5:
        colour = choose.choice(GROUNDS)
        if colour == own:
            return None
        said = [f"on {with_article(colour)} background", f"on {colour}", f"{colour} background"]
        place, ground = f"{colour} ground", lambda: _flat(colour, choose)
    else:
        place = choose.choice(list(WEATHER))
        paint, said = WEATHER[place]
        ground = lambda: paint(choose)  # noqa: E731
    scale = choose.uniform(0.6, 0.85)

    def picture() -> Image.Image:
        canvas = ground()
        sprite = mirrored(figure, figure.sprite(scale * CANVAS, scale * CANVAS, choose), choose)
        paste(canvas, sprite, (CANVAS - sprite.width) / 2, CANVAS * 0.92 - sprite.height)
        return canvas

    name = figure.name(choose)
    phrases = [
        f"{figure.bare()} {said[0]}",
        f"{figure.a()} {said[0]}",
        f"{figure.a(name)} {choose.choice(said[:-1])}",
        f"{figure.bare()}, {said[-1]}",
    ]
    return Sketch(picture, spoken(phrases, figure.drawing.style), (*figure.combinations, (place, figure.noun.key)))


def _flat(colour: str, choose: random.Random) -> Image.Image:
    levels = tuple(min(255, max(0, round(c + choose.gauss(0, 8)))) for c in COLOURS[colour])
    return Image.new("RGB", (CANVAS, CANVAS), levels)


def _graded(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    share = np.linspace(0, 1, CANVAS)[:, None]
    column = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
    return Image.fromarray(np.repeat(column[:, None].round().astype(np.uint8), CANVAS, axis=1))


def _night(choose: random.Random) -> Image.Image:
    canvas = _graded((16, 22, 58), (44, 54, 104))
    pen = ImageDraw.Draw(canvas)
    for _ in range(22):
        x, y, r = choose.uniform(2, 126), choose.uniform(2, 90), choose.choice((0.6, 0.6, 1.2))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 210))
    x, y = choose.choice((12, 92)), 8
    pen.ellipse((x, y, x + 24, y + 24), fill=(255, 240, 170))
    pen.ellipse((x + 8, y - 3, x + 30, y + 19), fill=(20, 26, 63))
    return canvas


def _rain(choose: random.Random) -> Image.Image:
    canvas = _graded((150, 168, 190), (190, 204, 218))
    pen = ImageDraw.Draw(canvas)
    for _ in range(46):
        x, y = choose.uniform(0, 132), choose.uniform(-6, 126)
        pen.line((x, y, x - 3, y + 9), fill=(72, 120, 190), width=2)
    return canvas


def _snow(choose: random.Random) -> Image.Image:
    canvas = _graded((150, 190, 226), (206, 226, 242))
    pen = ImageDraw.Draw(canvas)
    pen.ellipse((-40, 104, 168, 190), fill=(250, 252, 255))
    for _ in range(44):
        x, y, r = choose.uniform(0, 128), choose.uniform(0, 118), choose.uniform(1, 2.4)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return canvas


def _grass(choose: random.Random) -> Image.Image:
    canvas = _graded((140, 205, 250), (205, 235, 255))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, 96, 128, 128), fill=(104, 180, 70))
    for _ in range(26):
        x, y = choose.uniform(0, 128), choose.uniform(97, 124)
        pen.line((x, y, x + choose.uniform(-2, 2), y - 6), fill=(70, 146, 52), width=2)
    return canvas


WEATHER = {
    "night": (_night, ["at night", "under the stars", "night sky"]),
    "rain": (_rain, ["in the rain", "in the rain", "rain"]),
    "snow": (_snow, ["in the snow", "in the snow", "snow"]),
    "grass": (_grass, ["on the grass", "on green grass", "grass"]),
}
SUPPORTS = listed(
    """
    skateboard, sled, package, closed book, bed, drum, long drum, luggage, wrapped gift, birthday cake, automobile,
    bus, couch and lamp, toolbox, brick, wood, books, laptop, bathtub, pickup truck, tractor, railway car, treasure
    chest, cheese wedge, bread, pie
    """
)


def together(world: World, choose: random.Random) -> Sketch | None:
    """One thing on top of another."""
    row = choose.choice(world.listed("supports", lambda w: [i for i in w.named if w.rows[i].label in SUPPORTS]))
    style = world.rows[row].style
    below = maybe_coloured(world, row, choose)
    above = maybe_coloured(world, choose.choice(world.in_style("animals", style)), choose)
    if above.noun.key == below.noun.key:
        return None

    def picture() -> Image.Image:
        canvas = blank()
        support = below.sprite(CANVAS * 0.8, CANVAS * 0.55, choose)
        rider = mirrored(above, above.sprite(CANVAS * 0.6, CANVAS * 0.56, choose), choose)
        middle = np.asarray(support)[:, round(support.width * 0.3) : round(support.width * 0.7) + 1, 3] > 128
        top = float(np.median(np.argmax(middle, axis=0)))
        factor = min(1.0, (CANVAS - 2) / max(support.height, rider.height - top - 2 + support.height))
        support, rider, top = shrunk(support, factor), shrunk(rider, factor), top * factor
        over = max(0.0, rider.height - top - 2)
        y = (CANVAS - over - support.height) / 2 + over
        paste(canvas, support, (CANVAS - support.width) / 2, y)
        paste(canvas, rider, (CANVAS - rider.width) / 2, y + top + 2 - rider.height)
        return canvas

    m, n = above.name(choose), below.name(choose)
    phrases = [
        f"{above.bare()} on {below.a()}",
        f"{above.a()} on {below.a()}",
        f"{above.a(m)} on {below.a(n)}",
        f"{above.a(m)} on top of {below.a()}",
    ]
    combined = (*above.combinations, *below.combinations, (above.noun.key, below.noun.key))
    return Sketch(picture, spoken(phrases, style), combined)
