"""The built-in prompts of two parts: a colour and a thing, two things, two or three of a thing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "two_part.txt"
COLOUR, PAIR, COUNT = "colour and thing", "two things", "number of things"


@dataclass(frozen=True, slots=True)
class TwoPart:
    """A prompt and its parts: `first` is a colour, a thing or a number, `second` a thing."""

    kind: str
    prompt: str
    first: str
    second: str

    @property
    def things(self) -> tuple[str, ...]:
        return (self.first, self.second) if self.kind == PAIR else (self.second,)


def built_in() -> list[TwoPart]:
    """The hundred that ship."""
    return [TwoPart(*line.split("\t")) for line in FILE.read_text(encoding="utf-8").splitlines()]
