"""Whether words combine: a hundred prompts of two parts, and whether the eye finds both parts in a picture.

A colour and a thing: that colour dominates, and the picture shows that thing. Two things: each half shows one of them.
Two or three of a thing: there are so many pieces, and most of them show it. Pictures are drawings on white ground, as
the starter's are; on other ground nothing is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.evaluate.colours import dominating
from fewstep.evaluate.features import Eye
from fewstep.evaluate.pieces import alone, halves_of, ink_of, pieces_of, scaled
from fewstep.evaluate.two_part_prompts import COLOUR, PAIR, TwoPart

FOLDER = Path(__file__).parent
REAL = FOLDER / "two_part.webp"
HEAD = FOLDER / "two_part.safetensors"
COLUMNS, GAP, TILE = 10, 4, 128  # of the sheet of real pictures
NUMBERS = {"two": 2, "three": 3}
SCALE = 16.0  # of the embeddings, beside the features


def real_pictures(count: int) -> Tensor:
    """Real compositions of the built-in prompts, from the recipe: (count, 3, 128, 128) in [-1, 1]."""
    with Image.open(REAL) as image:
        sheet = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
    places = [divmod(number, COLUMNS) for number in range(count)]
    step = TILE + GAP
    return torch.stack([sheet[:, r * step : r * step + TILE, c * step : c * step + TILE] for r, c in places])


@dataclass(frozen=True, eq=False)
class Finder:
    """Looks for the parts of prompts: a linear head over the eye's embeddings says which of `things` a part shows.

    weight (T, 608) and bias (T,) are the head's; the recipe trains it on real drawings (`recipes/emoji/two_part.py`).
    """

    eye: Eye
    things: Sequence[str]
    weight: Tensor
    bias: Tensor

    @classmethod
    def load(cls, device: str | torch.device = "cpu") -> Finder:
        """Raises `InvalidModel` where the head was made for another eye than the one that ships."""
        eye = Eye.load(device)
        with safe_open(HEAD, "pt") as file:
            metadata = file.metadata()
        if metadata["eye"] != eye.identity:
            raise InvalidModel(
                "the head that looks for two parts was trained over another eye; make it again: "
                "python -m recipes.emoji.two_part build/starter"
            )
        head = load_file(HEAD)
        return cls(eye, metadata["things"].split(","), head["weight"].float(), head["bias"])

    def right(self, asked: Sequence[TwoPart], pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], one of each prompt, to (B,) float64: 1 where both parts are there."""
        every = zip(asked, scaled(pixels), ink_of(pixels), strict=True)
        return torch.tensor([float(self._right(*each)) for each in every]).double()

    def _right(self, asked: TwoPart, picture: Tensor, ink: Tensor) -> bool:
        if not ink.any():
            return False
        if asked.kind == COLOUR:
            colour = dominating(picture[:, ink].T.numpy() / 2 + 0.5)
            return colour == asked.first and self._seen(picture, [ink]) == [asked.second]
        if asked.kind == PAIR:
            halves = halves_of(ink)
            return halves is not None and set(self._seen(picture, halves)) == {asked.first, asked.second}
        pieces = pieces_of(ink)
        if len(pieces) != NUMBERS[asked.first]:
            return False
        ((thing, _),) = Counter(self._seen(picture, pieces)).most_common(1)
        return thing == asked.second

    def _seen(self, picture: Tensor, parts: Sequence[Tensor]) -> list[str]:
        """What each part of a picture shows."""
        seen = seen_of(self.eye, torch.stack([alone(picture, part) for part in parts]))
        return [self.things[i] for i in (seen @ self.weight.T + self.bias).argmax(1).tolist()]


def seen_of(eye: Eye, pixels: Tensor) -> Tensor:
    """What the head looks at, of pictures (B, 3, H, W) that show one thing each: embeddings and features, (B, 608).

    The mean over a picture and its mirror image.
    """
    both = [eye.look(pixels), eye.look(pixels.flip(-1))]
    return torch.stack([torch.cat([SCALE * seen.embeddings, seen.features], dim=1) for seen in both]).mean(0)
