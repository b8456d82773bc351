"""The marks that people write into prompts, as AUTOMATIC1111's web UI reads them: how much each part counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fewstep.errors import InvalidRequest

MORE = 1.1  # what a pair of bare parentheses multiplies by, and a pair of brackets divides by
MAX_WEIGHT = 10.0
_CLOSES = {")": "(", "]": "["}
_NUMBER = re.compile(r"\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True)
class Fragment:
    """A piece of a prompt, without its marks, and how much it counts; 1 is as it is."""

    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[list[Fragment]]:
    """A prompt as its sections (BREAK begins another), each a list of fragments.

    (words)       count 1.1 times as much; ((words)) 1.21 times, and so on
    (words:1.3)   count 1.3 times as much
    [words]       count 1.1 times less
    \\( \\) \\[ \\]   the signs themselves, as are those that have no partner

    Raises `InvalidRequest` for a weight beyond -10 and 10.
    """
    sections: list[list[Fragment]] = [[]]
    for fragment in _fragments(prompt):
        first, *others = _BREAK.split(fragment.text)
        sections[-1] += [Fragment(first, fragment.weight)] if first else []
        sections += [[Fragment(text, fragment.weight)] if text else [] for text in others]
    return [section for section in sections if section] or [[]]


def _fragments(prompt: str) -> Iterator[Fragment]:
    partners = _pairs(prompt)
    closing = {close: factor for close, factor, _ in partners.values()}
    silent = {number: close for close, _, number in partners.values()}
    weights, text, place = [1.0], "", 0
    while place < len(prompt):
        place = silent.get(place, place)
        letter = prompt[place]
        if place in partners or place in closing:
            if text:
                yield Fragment(text, _checked(weights[-1]))
            text = ""
            if place in partners:
                weights.append(weights[-1] * partners[place][1])
            else:
                weights.pop()
        elif _escapes(prompt, place):
            text, place = text + prompt[place + 1], place + 1
        else:
            text += letter
        place += 1
    if text:
        yield Fragment(text)


def _pairs(prompt: str) -> dict[int, tuple[int, float, int]]:
    """For every opening sign that has a partner: where that is, the factor between them, where its number begins."""
    pairs: dict[int, tuple[int, float, int]] = {}
    open_ones: list[int] = []
    waiting = {"(": 0, "[": 0}
    place = 0
    while place < len(prompt):
        letter = prompt[place]
        if _escapes(prompt, place):
            place += 1
        elif letter in "([":
            open_ones.append(place)
            waiting[letter] += 1
        elif letter in _CLOSES and waiting[_CLOSES[letter]]:
            while True:  # an opening sign of the other kind in between has no partner
                start = open_ones.pop()
                waiting[prompt[start]] -= 1
                if prompt[start] == _CLOSES[letter]:
                    break
            number = _NUMBER.search(prompt, max(start + 1, place - 24), place) if letter == ")" else None
            factor = float(number[1]) if number else MORE if letter == ")" else 1 / MORE
            pairs[start] = place, factor, number.start() if number else place
        place += 1
    return pairs


def _escapes(prompt: str, place: int) -> bool:
    return prompt[place] == "\\" and prompt[place + 1 : place + 2] in tuple("()[]\\")


def _checked(weight: float) -> float:
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidRequest(
            f"a part of the prompt has the weight {weight:g}; it must be from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        )
    return weight
