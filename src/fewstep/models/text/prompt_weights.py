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
_BREAK = re.compile(r"\s*\bBREAK\b")
_BREAK_AS_A_WORD = re.compile(r"\\BREAK\b")
_MARKS = re.compile(r"[()\[\]\\]|\bBREAK\b")


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
    \\( \\) \\[ \\]   the signs themselves, as are those that have no partner; \\BREAK is the word

    Raises `InvalidRequest` for a weight beyond -10 and 10.
    """
    sections: list[list[Fragment]] = [[]]
    for fragment in _fragments(prompt):
        if fragment is None:
            sections.append([])
        elif text := fragment.text if sections[-1] or len(sections) == 1 else fragment.text.lstrip():
            sections[-1].append(Fragment(text, fragment.weight))
    return [section for section in sections if section] or [[]]


def literal(text: str) -> str:
    """The prompt that `parse` reads as these words, whatever marks are among them."""
    try:
        plain = parse(text) == [[Fragment(text)] if text else []]
    except InvalidRequest:  # of a weight, where none is meant
        plain = False
    return text if plain else _MARKS.sub(lambda mark: f"\\{mark[0]}", text)


def _fragments(prompt: str) -> Iterator[Fragment | None]:
    """The fragments in their order; None stands for a BREAK."""
    partners = pairs(prompt)
    closing = {close: factor for close, factor, _ in partners.values()}
    silent = {number: close for close, _, number in partners.values()}
    weights, text, place = [1.0], "", 0
    while place < len(prompt):
        place = silent.get(place, place)
        if place in partners or place in closing:
            if text:
                yield Fragment(text, _checked(weights[-1]))
            text = ""
            if place in partners:
                weights.append(weights[-1] * partners[place][1])
            else:
                weights.pop()
        elif letters := escaped(prompt, place):
            text, place = text + letters, place + len(letters)
        elif found := _BREAK.match(prompt, place):
            if text:
                yield Fragment(text, _checked(weights[-1]))
            yield None
            text, place = "", found.end() - 1
        else:
            text += prompt[place]
        place += 1
    if text:
        yield Fragment(text)


def pairs(prompt: str) -> dict[int, tuple[int, float, int]]:
    """For every opening sign that has a partner: where that is, the factor between them, where its number begins."""
    found: dict[int, tuple[int, float, int]] = {}
    open_ones: list[int] = []
    waiting = {"(": 0, "[": 0}
    place = 0
    while place < len(prompt):
        letter = prompt[place]
        if letters := escaped(prompt, place):
            place += len(letters)
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
            found[start] = place, factor, number.start() if number else place
        place += 1
    return found


def escaped(prompt: str, place: int) -> str:
    """What a backslash at this place makes letters of; nothing where it is a letter itself."""
    if prompt[place] != "\\":
        return ""
    if (sign := prompt[place + 1 : place + 2]) in tuple("()[]\\"):
        return sign
    return "BREAK" if _BREAK_AS_A_WORD.match(prompt, place) else ""


def _checked(weight: float) -> float:
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidRequest(
            f"a part of the prompt has the weight {weight:g}; it must be from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        )
    return weight
