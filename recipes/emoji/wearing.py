"""Hats, glasses and bows on the heads of people, animals and smileys: where a head ends is read from its ink."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.emoji.captions import spoken
from recipes.emoji.figures import fitted, paste
from recipes.emoji.layouts import maybe_coloured
from recipes.emoji.nouns import with_article
from recipes.emoji.sketch import CANVAS, Sketch, blank
from recipes.emoji.synonyms import listed
from recipes.emoji.world import World


@dataclass(frozen=True, slots=True)
class Accessory:
    """What is worn: its label, what it is called, how wide it is against the head, how deep it sits, and who may.

    sink   how much of its own height goes over the head
    """

    label: str
    name: str
    width: float
    sink: float


HATS = (
    Accessory("top hat", "a top hat", 0.66, 0.16),
    Accessory("graduation cap", "a graduation cap", 0.85, 0.3),
    Accessory("billed cap", "a cap", 0.75, 0.22),
    Accessory("woman’s hat", "a sun hat", 0.95, 0.25),
    Accessory("crown", "a crown", 0.6, 0.12),
    Accessory("rescue worker’s helmet", "a helmet", 0.8, 0.22),
    Accessory("military helmet", "an army helmet", 0.8, 0.25),
    Accessory("ribbon", "a bow", 0.42, 0.35),
)
WEARERS = listed(
    """
    alien, baby, bear, boy, cat face, chicken, cow face, dog face, fox, frog, ghost, girl, hamster, horse face,
    koala, lion, man, monkey face, mouse face, old man, old woman, owl, panda, penguin, pig face, polar bear,
    raccoon, robot, skull, snowman without snow, tiger face, wolf, woman
    """
)
COVERED = ("hat", "mask", "halo", "horn", "party", "hand", "disguised", "helmet", "exploding", "clouds", "cowboy")


def wearers(world: World) -> list[int]:
    """Rows of heads that something can sit on."""
    return [i for i in world.named if _is_head(world, i)]


def _is_head(world: World, row: int) -> bool:
    drawing = world.rows[row]
    if drawing.label in WEARERS:
        return True
    return drawing.group == 0 and drawing.subgroup <= 10 and not any(word in drawing.label for word in COVERED)


def wearing(world: World, choose: random.Random) -> Sketch | None:
    """Somebody with something on the head."""
    rows = world.listed("wearers", wearers)
    wearer = maybe_coloured(world, choose.choice(rows), choose)
    style, accessory = wearer.drawing.style, choose.choice(HATS)
    row = world.by_style.get((style, accessory.label))
    if row is None or world.nouns[row] is None:
        return None
    worn = maybe_coloured(world, row, choose)

    def picture() -> Image.Image:
        head = wearer.sprite(CANVAS * 0.86, CANVAS * 0.74, choose)
        hat = worn.sprite(accessory.width * head.width, CANVAS * 0.5, choose)
        return hatted(head, hat, accessory.sink)

    thing = accessory.name.split(" ", 1)[1]
    said = with_article(f"{worn.colour} {thing}".strip())
    name = wearer.name(choose)
    phrases = [
        f"{wearer.bare()} wearing {said}",
        f"{wearer.a()} wearing {said}",
        f"{wearer.a(name)} with {said}",
        f"{said} on {wearer.a()}",
    ]
    together = (*wearer.combinations, *worn.combinations, (accessory.label, wearer.noun.key))
    return Sketch(picture, spoken(phrases, style), together)


def hatted(head: Image.Image, hat: Image.Image, sink: float) -> Image.Image:
    """A hat whose lower part covers the top of a head, both in the middle."""
    canvas = blank()
    top = crown(head)
    overlap = sink * hat.height
    over = max(0.0, hat.height - overlap - top)  # how far the hat goes beyond the head's picture
    height = over + head.height
    if height > CANVAS - 2:
        factor = (CANVAS - 2) / height
        head = fitted(head, head.width * factor, head.height * factor)
        hat = fitted(hat, hat.width * factor, hat.height * factor)
        top, overlap = crown(head), sink * hat.height
        over = max(0.0, hat.height - overlap - top)
    y = (CANVAS - over - head.height) / 2 + over
    x = (CANVAS - head.width) / 2
    paste(canvas, head, x, y)
    paste(canvas, hat, (CANVAS - hat.width) / 2, y + top + overlap - hat.height)
    return canvas


def crown(head: Image.Image) -> float:
    """Where the head begins, in pixels from the top of its picture: between the ears, over its middle third."""
    alpha = np.asarray(head)[..., 3] > 128
    middle = alpha[:, round(0.36 * head.width) : round(0.64 * head.width) + 1]
    return float(np.median(np.argmax(middle, axis=0)))
