"""`Field`: one thing that can be asked of a picture, with its range, its help, and the check of a value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal, SupportsIndex

from fewstep.errors import InvalidRequest
from fewstep.models.text.prompt_weights import parse

Type = Literal["text", "whole", "number", "switch", "choice", "times", "picture", "pictures", "weights"]


@dataclass(frozen=True)
class Field:
    """A row of the table of fields.

    name      in Python, in JSON, in records and in files of prompts; on the command line with dashes
    what      as messages call it
    help      for people; {range}, {choices} and {usual} stand for what this row says of them
    default   in words, what holds where nothing is given; "" where `help` says it
    low, high the range, its ends among it; of a text the most characters
    zero      why `low` itself is refused, where it is; "" where it is allowed
    off       what asks for nothing, for those who have to say something: a page's slider, a live session
    served    the most that a server takes: of a number, of characters, of times, of names; None: as much as `high`
    choices   of a choice
    usual     what holds where nothing is given, unless that is the model's matter
    needs     the field without which this one means nothing
    flags     on the command line, where they are not the name with dashes
    panel     of --help
    title, hint  on the page; a field without a title is none of its controls
    slider    (low, high, step) on the page; None: a number is typed
    """

    name: str
    type: Type
    what: str
    help: str
    default: str = ""
    low: float = 0
    high: float = math.inf
    zero: str = ""
    off: float | None = None
    served: int | None = None
    choices: Collection[str] = ()
    usual: float | None = None
    needs: str = ""
    flags: tuple[str, ...] = ()
    panel: str = "How"
    title: str = ""
    hint: str = ""
    slider: tuple[float, float, float] | None = None

    @property
    def range(self) -> str:
        return f"{'above ' if self.zero else ''}{self.low:g} to {self.high:g}"

    @property
    def description(self) -> str:
        """The help in full: `How much of it is painted anew, above 0 to 1. [default: 0.5]`."""
        words = self.help.format(range=self.range, choices=", ".join(self.choices))
        return f"{words} [default: {self.default.format(usual=self.usual)}]" if self.default else words

    def check(self, value: object, high: float | None = None) -> None:
        """Whether `value` is one (of pictures by name: one's scale), at most `high`.

        Raises `InvalidRequest` with what was given and what is allowed.
        """
        _CHECKS[self.type](self, value, self.high if high is None else high)

    def whole(self, value: object, high: float | None = None) -> int:
        """The number, of a field of whole ones; raises as `check`."""
        return _check_whole(self, value, self.high if high is None else high)

    def read(self, text: str) -> str | float | tuple[float, ...]:
        """What a text means, from a command line or a file; raises `InvalidRequest` for what are no times.

        What is no number stays a text, for `check` to refuse.
        """
        try:
            match self.type:
                case "whole":
                    return int(text)
                case "number":
                    return float(text)
                case "switch":
                    return {"true": True, "false": False}.get(text.lower(), text)
                case "times":
                    return tuple(map(_time, text.split(",")))
        except ValueError as error:
            if self.type == "times":
                example = "give numbers with commas: 999,749,499"
                raise InvalidRequest(f"the timesteps are {text[:60]!r}; {example}") from error
        return text


def _check_whole(field: Field, value: object, high: float) -> int:
    try:
        number = operator.index(value) if isinstance(value, SupportsIndex) else None
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not field.low <= number <= high:
        raise InvalidRequest(
            f"{field.what} is {shown(value)}; it must be a whole number from {int(field.low)} to {int(high)}"
        )
    return number


def _check_number(field: Field, value: object, high: float) -> float:
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not field.low <= number <= high:  # NaN is never within
        raise InvalidRequest(f"{field.what} is {shown(value)}; it must be a number from {field.low:g} to {high:g}")
    if field.zero and number == field.low:
        raise InvalidRequest(
            f"{field.what} is {field.low:g}, which {field.zero}; it must be above {field.low:g}, up to {high:g}"
        )
    return float(number)


def _check_text(field: Field, value: object, high: float) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{field.what} must be text, not {type(value).__name__}")
    if len(value) > high:
        raise InvalidRequest(f"{field.what} has {len(value)} characters; at most {int(high)} are allowed")
    parse(value)  # raises for a weight out of range
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidRequest(f"{field.what} holds characters that are no text (NUL, or bytes that are not UTF-8)")
    return value


def _check_choice(field: Field, value: object, high: float) -> object:
    if value not in field.choices:
        raise InvalidRequest(f"unknown {field.what} {shown(value)}; choose one of {', '.join(field.choices)}")
    return value


def _check_times(field: Field, value: object, high: float) -> tuple[float, ...]:
    if not isinstance(value, Iterable):
        raise InvalidRequest(f"the timesteps are {shown(value)}; they must be numbers: 999, 749, 499, 249")
    times = tuple(_check_number(field, t, high) for t in value)
    if not times or any(t <= s for t, s in pairwise(times)):
        raise InvalidRequest(f"the timesteps are {shown(list(times))}; they must fall: 999, 749, 499, 249")
    return times


def _time(text: str) -> float:
    """A whole one as such: most models know no others."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _check_switch(field: Field, value: object, high: float) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{field.what} is {shown(value)}; it must be true or false")
    return value


def _anything(field: Field, value: object, high: float) -> object:
    return value


_CHECKS: dict[Type, Callable[[Field, object, float], object]] = {
    "text": _check_text,
    "whole": _check_whole,
    "number": _check_number,
    "choice": _check_choice,
    "times": _check_times,
    "switch": _check_switch,
    "picture": _anything,
    "pictures": _check_number,
    "weights": _anything,
}


def shown(value: object) -> str:
    """A value in an error message: one line, and not a long one."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print an int of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
