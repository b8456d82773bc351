"""All drawings at hand: those that compositions may show, by what they are good for, and their pixels as sprites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

from recipes.emoji import drawings
from recipes.emoji.drawings import SIDE, Drawing
from recipes.emoji.nouns import Noun, noun

THINGS = (3, 4, 5, 6, 7)  # emojibase's groups: animals, food, travel, activities, objects
FACES = range(14)  # subgroups of group 0
PEOPLE = range(23, 30)
SHAPES = 96
NO_ANIMALS = ("paw prints", "pig nose", "feather", "wing", "spiral shell", "coral", "spider web", "microbe")


@dataclass(frozen=True)
class World:
    """The drawings and where their pixels are; cheap to open in every process, pixels are read one by one.

    rows      every drawing
    pixels    row -> uint8 (192, 192, 4), not premultiplied
    """

    rows: list[Drawing]
    pixels: Callable[[int], np.ndarray]

    @classmethod
    def open(cls, folder: Path) -> World:
        """What `drawings.build` made in `folder`."""
        return cls(drawings.read_rows(folder), _Pixels(folder / "drawings.safetensors"))

    def sprite(self, row: int) -> Image.Image:
        """A drawing's ink, cut out: RGBA."""
        left, top, right, bottom = self.rows[row].box
        return Image.fromarray(self.pixels(row)[top:bottom, left:right])

    @cached_property
    def trained(self) -> list[int]:
        """Rows that training may see."""
        return [i for i, drawing in enumerate(self.rows) if not drawing.held_out]

    @cached_property
    def held_out(self) -> list[int]:
        return [i for i, drawing in enumerate(self.rows) if drawing.held_out]

    @cached_property
    def nouns(self) -> list[Noun | None]:
        """What each drawing is called in a sentence."""
        return [_noun(drawing) for drawing in self.rows]

    @cached_property
    def all_names(self) -> frozenset[str]:
        """Every name and label that a drawing has."""
        names = {noun.one for noun in self.nouns if noun is not None}
        return frozenset(names | {drawing.label for drawing in self.rows})

    @cached_property
    def named(self) -> list[int]:
        """Trained rows that have a name."""
        return [i for i in self.trained if self.nouns[i] is not None]

    @cached_property
    def things(self) -> list[int]:
        """Named rows of animals, food and objects."""
        return [i for i in self.named if self.rows[i].group in THINGS]

    @cached_property
    def animals(self) -> list[int]:
        return [
            i
            for i in self.named
            if self.rows[i].group == 3 and self.rows[i].label not in NO_ANIMALS and self.rows[i].subgroup < 40
        ]

    @cached_property
    def countable(self) -> list[int]:
        return [i for i in self.named if self._noun(i).plural and self.rows[i].group != 1]

    @cached_property
    def painted(self) -> list[int]:
        """Named rows that can take another colour."""
        return [i for i in self.named if takes_colour(self.rows[i])]

    @cached_property
    def by_style(self) -> dict[tuple[str, str], int]:
        """(style, label) -> row, of what training may see."""
        return {(self.rows[i].style, self.rows[i].label): i for i in self.trained}

    def in_style(self, rows: str, style: str) -> list[int]:
        """The rows of one of the lists above ("things", ...) that are of a style."""
        if (rows, style) not in self._lists:
            self._lists[rows, style] = [i for i in getattr(self, rows) if self.rows[i].style == style]
        return self._lists[rows, style]

    def listed(self, name: str, made: Callable[[World], list[int]]) -> list[int]:
        """A list of rows that a kind of composition draws from, made once."""
        if (name, "") not in self._lists:
            self._lists[name, ""] = made(self)
        return self._lists[name, ""]

    @cached_property
    def _lists(self) -> dict[tuple[str, str], list[int]]:
        return {}

    def _noun(self, row: int) -> Noun:
        found = self.nouns[row]
        assert found is not None
        return found


def takes_colour(drawing: Drawing) -> bool:
    """Whether one paint dominates it; of people nobody can say what is red."""
    return drawing.paint is not None and not (drawing.group == 1 and drawing.subgroup in PEOPLE)


def _noun(drawing: Drawing) -> Noun | None:
    good = drawing.group in THINGS or (drawing.group == 0 and drawing.subgroup < 15)
    good = good or (drawing.group == 1 and (drawing.subgroup in PEOPLE or drawing.subgroup == 22))
    good = good or (drawing.subgroup == SHAPES and drawing.label.split()[-1] in ("circle", "square", "diamond"))
    return noun(drawing.label) if good else None


class _Pixels:
    """Rows of the file, read one at a time; every process that is handed a copy opens the file anew."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._open()

    def _open(self) -> None:
        self.rows = safe_open(self.file, "numpy").get_slice("pixels")

    def __call__(self, row: int) -> np.ndarray:
        pixels: np.ndarray = self.rows[row]
        assert pixels.shape == (SIDE, SIDE, 4)
        return pixels

    def __getstate__(self) -> Path:
        return self.file

    def __setstate__(self, file: Path) -> None:
        self.file = file
        self._open()
