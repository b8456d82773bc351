"""One thing in a place: on coloured ground, at night, in the rain, in the snow, on grass, in the sea, on the beach."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from recipes.emoji.captions import spoken
from recipes.emoji.figures import mirrored, paste, shade_of
from recipes.emoji.layouts import maybe_coloured
from recipes.emoji.nouns import with_article
from recipes.emoji.paint import COLOURS
from recipes.emoji.sketch import CANVAS, Sketch
from recipes.emoji.world import World

GROUNDS = [word for word in COLOURS if word != "white"]


def placed(world: World, choose: random.Random) -> Sketch | None:
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
    red, green, blue = (round(level) for level in shade_of(colour, choose))
    return Image.new("RGB", (CANVAS, CANVAS), (red, green, blue))


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


def _sea(choose: random.Random) -> Image.Image:
    canvas = _graded((96, 190, 235), (22, 96, 176))
    pen = ImageDraw.Draw(canvas)
    for _ in range(14):
        x, y, r = choose.uniform(0, 128), choose.uniform(0, 128), choose.uniform(1.5, 4)
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(190, 230, 250))
    return canvas


def _beach(choose: random.Random) -> Image.Image:
    canvas = _graded((150, 214, 250), (220, 242, 255))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, 66, 128, 98), fill=(40, 140, 210))
    pen.ellipse((-60, 88, 188, 180), fill=(240, 214, 150))
    x = choose.choice((10, 96))
    pen.ellipse((x, 8, x + 22, 30), fill=(255, 216, 70))
    return canvas


def _sky(choose: random.Random) -> Image.Image:
    canvas = _graded((96, 178, 244), (190, 226, 252))
    pen = ImageDraw.Draw(canvas)
    for _ in range(4):
        x, y, r = choose.uniform(-6, 110), choose.uniform(2, 110), choose.uniform(7, 11)
        for across, size in ((0, 0.8), (r, 1.0), (2 * r, 0.75)):
            pen.ellipse(
                (x + across - r * size, y - r * size, x + across + r * size, y + r * size), fill=(250, 252, 255)
            )
    return canvas


WEATHER = {
    "sea": (_sea, ["under water", "in the sea", "sea"]),
    "beach": (_beach, ["on the beach", "on the beach", "beach"]),
    "sky": (_sky, ["in the sky", "in the clouds", "blue sky"]),
    "night": (_night, ["at night", "under the stars", "night sky"]),
    "rain": (_rain, ["in the rain", "in the rain", "rain"]),
    "snow": (_snow, ["in the snow", "in the snow", "snow"]),
    "grass": (_grass, ["on the grass", "on green grass", "grass"]),
}
