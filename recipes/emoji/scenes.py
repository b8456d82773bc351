"""Two things that touch: on a skateboard, in a bowl, under an umbrella, in front of a house."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.emoji import props
from recipes.emoji.captions import spoken
from recipes.emoji.figures import Figure, fitted, mirrored, paste, shrunk
from recipes.emoji.layouts import maybe_coloured
from recipes.emoji.nouns import with_article
from recipes.emoji.paint import COLOURS
from recipes.emoji.props import SCALE, Prop
from recipes.emoji.sketch import CANVAS, Sketch, blank
from recipes.emoji.synonyms import listed
from recipes.emoji.world import World

FLAT_TOPS = listed("package, books, wrapped gift, bus, toolbox, brick, briefcase, drum, oil drum, railway car, minibus")
SHELTERS = listed("umbrella, rainbow, cloud, cloud with rain, cloud with snow, palm tree, deciduous tree")
BACKS = listed(
    """
    house, castle, mountain, snow-capped mountain, volcano, church, school, hospital, tent, circus tent, hut, factory,
    hotel, evergreen tree, deciduous tree, palm tree, ferris wheel, japanese castle, stadium, rainbow, fountain,
    christmas tree, office building, bus, full moon, sun
    """
)
FLYING = listed("rainbow, cloud, cloud with rain, cloud with snow")
UNDERLAP = 2  # pixels that a thing sinks into what it stands on


@dataclass(frozen=True)
class Layer:
    """A picture and its left and top, in any pixels: `composed` makes all of them fit."""

    image: Image.Image
    left: float
    top: float


def together(world: World, choose: random.Random) -> Sketch | None:
    """One of the ways below, the props as often as the drawings."""
    (way,) = choose.choices((carried, held, on_top, beneath, in_front), (0.24, 0.3, 0.14, 0.16, 0.16))
    sketch: Sketch | None = way(world, choose)
    return sketch


def carried(world: World, choose: random.Random) -> Sketch:
    """Something on a skateboard, a table, a rug, a cushion."""
    prop, colour = _prop(props.CARRIERS, choose)
    rider = _rider(world, choose)
    size = choose.uniform(0.55, 0.75)

    def picture() -> Image.Image:
        board = props.picture(prop, colour)
        sprite = mirrored(rider, rider.sprite(board.width * size, board.width * 0.7, choose), choose)
        x = (board.width - sprite.width) / 2
        return composed([Layer(board, 0, 0), Layer(sprite, x, prop.seat * SCALE - sprite.height)])

    return Sketch(picture, *_said(rider, _of_prop(prop, colour), "on", choose, again="on top of"))


def _prop(among: Sequence[Prop], choose: random.Random) -> tuple[Prop, str]:
    """One of them, every other time in a colour that is said."""
    colours = [word for word in COLOURS if word != "white"]
    return choose.choice(among), choose.choice(colours) if choose.random() < 0.5 else ""


def _rider(world: World, choose: random.Random) -> Figure:
    """Mostly an animal, else a smiley, food or a thing."""
    rows = world.animals if choose.random() < 0.6 else world.countable
    return maybe_coloured(world, choose.choice(rows), choose)


def held(world: World, choose: random.Random) -> Sketch:
    """Something in a bowl, a box, a cup, a boat: before its back, behind its front."""
    prop, colour = _prop(props.HOLDERS, choose)
    rider = _rider(world, choose)
    size = choose.uniform(0.5, 0.66)

    def picture() -> Image.Image:
        front = props.picture(prop, colour)
        sprite = mirrored(rider, rider.sprite(front.width * size, front.width * 0.8, choose), choose)
        least = (prop.seat + 18) * SCALE  # as much of it must look out
        if sprite.height < least:
            sprite = fitted(rider.sprite(front.width * 0.8, front.width, choose), front.width * 0.8, least)
        middle = 0.45 if prop is props.CUP else 0.5
        thing = Layer(sprite, front.width * middle - sprite.width / 2, prop.seat * SCALE - sprite.height)
        return composed([Layer(props.behind(prop, colour), 0, 0), thing, Layer(front, 0, 0)])

    return Sketch(picture, *_said(rider, _of_prop(prop, colour), "in", choose, again="inside"))


def on_top(world: World, choose: random.Random) -> Sketch | None:
    """Something on a drawing whose top is flat."""
    below = _among(world, "flat tops", FLAT_TOPS, choose)
    if below is None:
        return None
    above = _companion(world, below, choose)
    size = choose.uniform(0.5, 0.8)

    def picture() -> Image.Image:
        support = below.sprite(CANVAS, CANVAS * 0.7, choose)
        rider = mirrored(above, above.sprite(support.width * size, CANVAS * 0.7, choose), choose)
        top = _surface(support, rider.width)
        x = (support.width - rider.width) / 2
        return composed([Layer(support, 0, 0), Layer(rider, x, top + UNDERLAP - rider.height)])

    return Sketch(picture, *_said(above, _of_figure(below), "on", choose, again="on top of"))


def beneath(world: World, choose: random.Random) -> Sketch | None:
    """Something under an umbrella, a tree, a cloud, a rainbow."""
    shelter = _among(world, "shelters", SHELTERS, choose)
    if shelter is None:
        return None
    thing = _companion(world, shelter, choose)
    flying = shelter.drawing.label in FLYING

    def picture() -> Image.Image:
        roof = shelter.sprite(CANVAS, CANVAS, choose)
        size = 0.62 if flying else 0.46
        sprite = mirrored(thing, thing.sprite(size * CANVAS, size * CANVAS, choose), choose)
        top = roof.height + 2 if flying else roof.height - sprite.height
        aside = 0 if flying or "umbrella" in shelter.drawing.label else choose.uniform(-0.22, 0.22) * roof.width
        return composed([Layer(roof, 0, 0), Layer(sprite, (roof.width - sprite.width) / 2 + aside, top)])

    return Sketch(picture, *_said(thing, _of_figure(shelter), "under", choose, again="below" if flying else ""))


def in_front(world: World, choose: random.Random) -> Sketch | None:
    """Something before something large."""
    back = _among(world, "backs", BACKS, choose)
    if back is None:
        return None
    thing = _companion(world, back, choose)
    size, aside = choose.uniform(0.4, 0.52), choose.uniform(-0.25, 0.25)

    def picture() -> Image.Image:
        behind = back.sprite(CANVAS, CANVAS, choose)
        sprite = mirrored(thing, thing.sprite(size * CANVAS, size * CANVAS, choose), choose)
        x = (behind.width - sprite.width) / 2 + aside * behind.width
        return composed([Layer(behind, 0, 0), Layer(sprite, x, behind.height - 0.8 * sprite.height)])

    return Sketch(picture, *_said(thing, _of_figure(back), "in front of", choose, turned="behind"))


def _among(world: World, name: str, labels: frozenset[str], choose: random.Random) -> Figure | None:
    rows = world.listed(name, lambda w: [i for i in w.named if w.rows[i].label in labels])
    return maybe_coloured(world, choose.choice(rows), choose) if rows else None


def _companion(world: World, other: Figure, choose: random.Random) -> Figure:
    """An animal, else anything with a name, of the same style."""
    style = other.drawing.style
    animals = world.in_style("animals", style) if choose.random() < 0.65 else []
    return maybe_coloured(world, choose.choice(animals or world.in_style("countable", style)), choose)


@dataclass(frozen=True)
class Other:
    """What the first thing is on, in, under or before: what it is called, and what it combines."""

    name: str
    bare: str
    key: str
    combinations: tuple[tuple[str, ...], ...]


def _of_prop(prop: Prop, colour: str) -> Other:
    bare = f"{colour} {prop.name}".strip()
    return Other(with_article(bare), bare, prop.name, ((colour, prop.name),) if colour else ())


def _of_figure(figure: Figure) -> Other:
    return Other(figure.a(), figure.bare(), figure.noun.key, tuple(figure.combinations))


def _said(
    thing: Figure, other: Other, word: str, choose: random.Random, *, again: str = "", turned: str = ""
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Captions and combinations of thing-word-other; `again` is another such word, `turned` one from other to thing."""
    name = thing.name(choose)
    phrases = [
        f"{thing.bare()} {word} {other.name}",
        f"{thing.a()} {word} {other.name}",
        f"{thing.a(name)} {word} {other.name}",
        f"{thing.a(name)} {again or word} {other.name}",
    ]
    if turned:
        phrases.append(f"{other.name} {turned} {thing.a()}")
    combined = (*thing.combinations, *other.combinations, (thing.noun.key, other.key))
    return spoken(phrases, thing.drawing.style), combined


def _surface(support: Image.Image, width: float) -> float:
    """Where something of that width comes to stand on it, in pixels from its top."""
    ink = np.asarray(support)[..., 3] > 128
    half = min(0.25 * ink.shape[1], 0.3 * width)
    middle = ink[:, round(ink.shape[1] / 2 - half) : round(ink.shape[1] / 2 + half) + 1]
    return float(np.median(np.argmax(middle, axis=0)))


def composed(layers: Sequence[Layer]) -> Image.Image:
    """Layers from back to front on white, in the middle, all of them as large as fits."""
    left, top = min(layer.left for layer in layers), min(layer.top for layer in layers)
    right = max(layer.left + layer.image.width for layer in layers)
    bottom = max(layer.top + layer.image.height for layer in layers)
    factor = min(1.0, (CANVAS - 4) / max(right - left, bottom - top))
    across, down = ((CANVAS - factor * (far + near)) / 2 for near, far in ((left, right), (top, bottom)))
    canvas = blank()
    for layer in layers:
        paste(canvas, shrunk(layer.image, factor), across + factor * layer.left, down + factor * layer.top)
    return canvas
