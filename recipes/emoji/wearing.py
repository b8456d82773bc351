"""Hats, glasses, bows, scarves on people, animals and smileys: where a head begins and looks is read from its ink."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.emoji import props
from recipes.emoji.captions import spoken
from recipes.emoji.figures import Figure, fitted, mirrored, paste, shrunk
from recipes.emoji.layouts import maybe_coloured
from recipes.emoji.nouns import with_article
from recipes.emoji.paint import COLOURS
from recipes.emoji.props import Prop
from recipes.emoji.sketch import CANVAS, Sketch, blank
from recipes.emoji.synonyms import listed
from recipes.emoji.world import World


@dataclass(frozen=True, slots=True)
class Worn:
    """How something is worn: `width` against the head's, and how much of its own height goes over the head."""

    place: str
    width: float
    over: float


@dataclass(frozen=True)
class Garment:
    """A picture of what is worn, what it is called, what it combines by itself, and how it is worn."""

    picture: Callable[[], Image.Image]
    name: str
    colour: str
    key: str
    worn: Worn
    article: bool = True

    def said(self) -> str:
        phrase = f"{self.colour} {self.name}".strip()
        return with_article(phrase) if self.article else phrase


FROM_ART = {  # label -> what it is called, how it is worn
    "top hat": ("top hat", Worn("top", 0.66, 0.2)),
    "graduation cap": ("graduation cap", Worn("top", 0.85, 0.34)),
    "billed cap": ("cap", Worn("top", 0.78, 0.3)),
    "crown": ("crown", Worn("top", 0.6, 0.16)),
    "ribbon": ("bow", Worn("top", 0.42, 0.45)),
}
PROPS = {
    **{prop: Worn("top", 0.62, 0.16) for prop in (props.PARTY_HAT, props.CHEF_HAT)},
    **{prop: Worn("top", 0.8, 0.28) for prop in (props.SANTA_HAT, props.WOOLLY_HAT)},
    props.WIZARD_HAT: Worn("top", 0.9, 0.16),
    props.COWBOY_HAT: Worn("top", 1.0, 0.34),
    props.BOW: Worn("top", 0.45, 0.5),
    props.FLOWER: Worn("side", 0.32, 0.6),
    **{prop: Worn("eyes", 0.74, 0.5) for prop in props.SPECTACLES},
    props.BOW_TIE: Worn("chin", 0.46, 0.5),
    props.SCARF: Worn("chin", 0.72, 0.4),
    props.HEADPHONES: Worn("ears", 1.04, 0.0),
}
HEADS = listed(
    """
    cat face, dog face, tiger face, cow face, pig face, mouse face, monkey face, rabbit face, fox, bear, panda, koala,
    lion, frog, wolf, hamster, polar bear, raccoon, skull, robot, alien, baby, boy, girl, man, woman, old man,
    old woman, child, clown face, full moon face, sun with face, new moon face
    """
)
TALL = listed("penguin, owl, chicken, ghost, horse face, unicorn, teddy bear, jack-o-lantern")
WITHOUT_EYES = (
    "old man",
    "sunglasses",
    "glasses",
    "nerd",
    "monocle",
    "eyes",
    "star",
    "dizzy",
    "melting",
    "hearts",
    "thermometer",
)
COVERED = ("hat", "mask", "halo", "horn", "party", "hand", "disguised", "helmet", "exploding", "clouds", "cowboy")
FOR_FACES_ONLY = ("eyes", "chin", "ears")


def heads(world: World) -> list[int]:
    """Rows of heads, upright and from the front."""
    return [i for i in world.named if world.rows[i].label in HEADS or _is_smiley(world, i)]


def wearers(world: World) -> list[int]:
    """Rows of what a hat can sit on."""
    return heads(world) + [i for i in world.named if world.rows[i].label in TALL]


def _is_smiley(world: World, row: int) -> bool:
    drawing = world.rows[row]
    return (
        drawing.group == 0
        and drawing.subgroup <= 12
        and not any(word in drawing.label for word in COVERED)
        and ("face" in drawing.label or drawing.subgroup == 12)
    )


def wearing(world: World, choose: random.Random) -> Sketch | None:
    """Somebody with something on the head, over the eyes or under the chin; animals and people as often as smileys."""
    if choose.random() < 0.4:
        garment_for: Callable[[str], Garment | None] = lambda style: _from_art(world, style, choose)  # noqa: E731
        place = "top"
    else:
        prop = choose.choice(list(PROPS))
        place = PROPS[prop].place
        garment_for = lambda _: _from_props(prop, choose)  # noqa: E731
    rows = world.listed("heads", heads) if place in FOR_FACES_ONLY else world.listed("wearers", wearers)
    if choose.random() < 0.5:
        rows = [row for row in rows if world.rows[row].group != 0]
    if not rows:
        return None
    wearer = maybe_coloured(world, choose.choice(rows), choose)
    label, style = wearer.drawing.label, wearer.drawing.style
    garment = garment_for(style)
    if garment is None or (place == "eyes" and any(word in label for word in WITHOUT_EYES)):
        return None
    if place == "ears" and label in ("monkey face", "mouse face"):
        return None  # the ears are where the headphones would be

    def picture() -> Image.Image:
        head = wearer.sprite(CANVAS * 0.86, CANVAS * 0.8, choose)
        return dressed(mirrored(wearer, head, choose), garment.picture(), garment.worn)

    name, said = wearer.name(choose), garment.said()
    phrases = [
        f"{wearer.bare()} wearing {said}",
        f"{wearer.a()} wearing {said}",
        f"{wearer.a(name)} with {said}",
        f"{wearer.a(name)} in {said}"
        if place == "top" and garment.name != "bow"
        else f"{wearer.bare(name)} with {said}",
    ]
    coloured = ((garment.colour, garment.key),) if garment.colour else ()
    together = (*wearer.combinations, *coloured, (garment.key, wearer.noun.key))
    return Sketch(picture, spoken(phrases, style), together)


def _from_art(world: World, style: str, choose: random.Random) -> Garment | None:
    label = choose.choice(list(FROM_ART))
    row = world.by_style.get((style, label))
    if row is None or world.nouns[row] is None:
        return None
    name, worn = FROM_ART[label]
    figure: Figure = maybe_coloured(world, row, choose)
    return Garment(lambda: figure.sprite(CANVAS, CANVAS, choose), name, figure.colour, name, worn)


def _from_props(prop: Prop, choose: random.Random) -> Garment:
    colour = choose.choice([word for word in COLOURS if word != "white"]) if choose.random() < 0.5 else ""
    if prop in (props.SANTA_HAT, props.CHEF_HAT):
        colour = ""
    return Garment(lambda: props.picture(prop, colour), prop.name, colour, prop.name, PROPS[prop], prop.article)


def dressed(head: Image.Image, thing: Image.Image, worn: Worn) -> Image.Image:
    """A head with something on it, all of it inside the picture."""
    thing = fitted(thing, worn.width * head.width, CANVAS)
    left, top = _position(head, thing, worn)
    right, bottom = max(head.width, left + thing.width), max(head.height, top + thing.height)
    x, y = min(0.0, left), min(0.0, top)
    factor = min(1.0, (CANVAS - 4) / max(right - x, bottom - y))
    head, thing = shrunk(head, factor), shrunk(thing, factor)
    canvas = blank()
    across = (CANVAS - (right - x) * factor) / 2 - x * factor
    down = (CANVAS - (bottom - y) * factor) / 2 - y * factor
    paste(canvas, head, across, down)
    paste(canvas, thing, across + left * factor, down + top * factor)
    return canvas


def _position(head: Image.Image, thing: Image.Image, worn: Worn) -> tuple[float, float]:
    """Left and top of what is worn, from the corner of the head."""
    ink = np.asarray(head)[..., 3] > 128
    middle = axis(ink)
    left, over = middle - thing.width / 2, worn.over * thing.height
    if worn.place == "eyes":
        return left, eyes(head) - over
    if worn.place == "chin":
        return left, head.height - over
    if worn.place == "ears":
        return left, crown(ink, middle) - 0.06 * thing.height
    if worn.place == "side":
        aside = middle + 0.27 * head.width
        return aside - thing.width / 2, crown(ink, aside) - (1 - worn.over) * thing.height
    return left, crown(ink, middle) + over - thing.height


def axis(ink: np.ndarray) -> float:
    """The column that a head has its middle at: of the widest rows' ink."""
    columns = np.arange(ink.shape[1])
    widest = ink.sum(1) >= 0.6 * ink.sum(1).max()
    return float((ink[widest] * columns).sum() / ink[widest].sum())


def crown(ink: np.ndarray, middle: float) -> float:
    """Where the head begins, in pixels from the top: between the ears, over the middle quarter."""
    width = ink.shape[1]
    low, high = max(0, round(middle - 0.13 * width)), min(width, round(middle + 0.13 * width) + 1)
    return float(np.median(np.argmax(ink[:, low:high], axis=0)))


def eyes(head: Image.Image) -> float:
    """The row that the eyes are in: where both halves of the upper face have most dark ink."""
    rgba = np.asarray(head).astype(np.float32)
    level = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    dark = (level < 90) & (rgba[..., 3] > 128)
    height, width = dark.shape
    half = width // 2
    sides = [dark[:, half - reach : half - near] for reach, near in [(round(0.36 * width), round(0.07 * width))]]
    sides += [dark[:, half + round(0.07 * width) : half + round(0.36 * width)]]
    both = np.minimum(*(side.sum(1) for side in sides)).astype(np.float32)
    smooth = np.convolve(both, np.ones(max(3, height // 12)), "same")
    low, high = round(0.28 * height), round(0.62 * height)
    if smooth[low:high].max() < 3:
        return 0.42 * height
    rows = np.arange(low, high)
    weight = smooth[low:high] ** 3
    return float((rows * weight).sum() / weight.sum())
