"""What is said of a composition, in four to six ways: plain words, with and without the style, tags alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from recipes.emoji import combinations
from recipes.emoji.drawings import Drawing
from recipes.emoji.figures import Figure
from recipes.emoji.nouns import speaks_of_colour

MOST = 6
LEAST = 4
DOMINANT = 0.35  # a drawing with less of other paint may be called by its colour


def in_style(text: str, style: str) -> str:
    return f"{text}, {style} style"


def spoken(phrases: Sequence[str], style: str) -> tuple[str, ...]:
    """Of a composition; the first phrase is said with the style, the next plainly, further ones in turn."""
    first, second = phrases[0], phrases[min(1, len(phrases) - 1)]
    every = [in_style(first, style), second, first, in_style(second, style), *phrases[2:]]
    return _some(every, fillers=[f"a picture of {second}", f"a drawing of {second}"])


def of_drawing(figure: Figure, choose: random.Random) -> tuple[str, ...]:
    """Of one drawing in its own colour: label, name, everyday names, tags."""
    drawing, style = figure.drawing, figure.drawing.style
    label, tags = drawing.label, tags_of(drawing)
    some = choose.sample(tags, min(len(tags), choose.choice((1, 2, 3))))
    every = [in_style(label, style), label]
    if figure.world.nouns[figure.row] is not None:
        every += _named(figure, choose)
    every.append(", ".join([label, *some, f"{style} style"]))
    if len(some) > 1:
        every.append(", ".join([*some, f"{style} style"]))
    return _some(every, fillers=[f"{label} emoji", f"{style} style, {label}", f"{label} icon"])


def _named(figure: Figure, choose: random.Random) -> list[str]:
    """With an article, under an everyday name, and by the colour that it has."""
    drawing = figure.drawing
    name = choose.choice(figure.names())
    said = [figure.a(), figure.bare(name) if choose.random() < 0.5 else figure.a(name)]
    if (colour := own_colour(drawing)) and not combinations.held_out(colour, figure.noun.key):
        said.insert(1, Figure(figure.world, figure.row, colour).a())
    return said


def own_colour(drawing: Drawing) -> str:
    """The colour that a drawing may be called by; "" where it is not plain to see, or in the label already."""
    paint = drawing.paint
    if (
        paint is None
        or paint.plain > DOMINANT
        or paint.hue is None
        or drawing.group == 1
        or speaks_of_colour(drawing.label)
    ):
        return ""
    return paint.word


def tags_of(drawing: Drawing) -> list[str]:
    """The tags that the label does not hold."""
    return [tag for tag in drawing.tags if tag not in drawing.label]


def _some(every: Iterable[str], fillers: Sequence[str]) -> tuple[str, ...]:
    found = list(dict.fromkeys(every))[:MOST]
    for filler in fillers:
        if len(found) < LEAST and filler not in found:
            found.append(filler)
    return tuple(found)
