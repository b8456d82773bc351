"""Text files as people's programs write them: with a byte-order mark, in UTF-8, in UTF-16, or in Windows' own code."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from fewstep.errors import InvalidData

FALLBACK = "cp1252"  # of Windows in the West
_MARKS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path, guessed: list[str]) -> str:
    """The text of a file, whose name joins `guessed` where `FALLBACK` was taken.

    Raises `InvalidData`, naming it, for what cannot be read as text.
    """
    try:
        return decoded(path.read_bytes(), str(path), guessed)
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror or error}") from error


def decoded(content: bytes, what: str, guessed: list[str]) -> str:
    """Text by its byte-order mark, else in UTF-8, else in UTF-16 where bytes are 0, else in `FALLBACK`, which is noted.

    Raises `InvalidData`, which calls it `what`, where none of them fits.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", None))
    for each in (encoding,) if encoding else _guesses(content):
        try:
            text = content[len(mark) :].decode(each)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            guessed += [what] if each == FALLBACK else []
            return text
    expected = f"{encoding}, as its first bytes say" if encoding else f"UTF-8, UTF-16 or {FALLBACK}"
    raise InvalidData(f"{what} is no text in {expected}: save it as UTF-8")


def lines_of(text: str) -> list[str]:
    """Ended by what ends a line in a file; other separators of Unicode stay in the text, as JSON has them."""
    return re.split(r"\r\n|\r|\n", text)


def _guesses(content: bytes) -> tuple[str, ...]:
    even, odd = content[::2].count(0), content[1::2].count(0)
    return ("utf-8", "utf-16-le" if odd > even else "utf-16-be") if even or odd else ("utf-8", FALLBACK)
