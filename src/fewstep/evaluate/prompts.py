"""The prompts of an evaluation: checked one by one, because a bad line would spoil a number without a word."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fewstep.errors import InvalidRequest

BUILT_IN = "builtin"
FILE = Path(__file__).parent / "prompts.txt"
LONGEST = 1_000  # characters; no text encoder here reads so many


@dataclass(frozen=True)
class Prompts:
    """Texts, each different, and where they are from."""

    texts: tuple[str, ...]
    source: str

    def first(self, count: int) -> Prompts:
        return Prompts(self.texts[:count], self.source)

    @property
    def identity(self) -> str:
        """The first 12 hex digits of a SHA-256 over the texts."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:12]


def read_prompts(source: str | Path = BUILT_IN) -> Prompts:
    """Prompts from a text file, one a line, or the built-in ones (500 drawings of the starter's kind).

    Raises `InvalidRequest` naming the line that is blank, longer than 1,000 characters, or there twice.
    """
    path = FILE if str(source) == BUILT_IN else Path(source)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"the prompts {path} cannot be read as text: {reason}") from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        where = f"{path}, line {number}"
        if not text:
            raise InvalidRequest(f"{where} is blank; an evaluation takes one prompt a line")
        if len(text) > LONGEST:
            raise InvalidRequest(f"{where} has {len(text)} characters; at most {LONGEST} make sense to a text encoder")
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidRequest(f"{where} holds characters that are no text")
        if text in seen:
            raise InvalidRequest(f"{where} repeats line {seen[text]}; every prompt must be another one")
        seen[text] = number
    if not seen:
        raise InvalidRequest(f"{path} holds no prompts")
    return Prompts(tuple(seen), str(source))
