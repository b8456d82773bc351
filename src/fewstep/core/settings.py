"""Settings: the fields of a record, each with its range and its help for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from enum import Enum
from typing import Any, ClassVar, Protocol, TypeVar, cast

T = TypeVar("T")
INFINITY = float("inf")


class Record(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Value = str | float | tuple[str, ...] | tuple[float, ...] | Record | None  # of a setting


class Required(Enum):
    """Stands for the default of a setting that has none."""

    YES = 0


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting beside its type and default.

    option   its name on the command line, as typer writes it ("--flip/--no-flip"); None: only a recipe sets it
    help     one sentence, for `--help`
    panel    the heading in `--help`; None: the record's own
    choices  the values that are allowed, where they can be listed
    low, high, below, above  the range: at least, at most, less than, more than
    """

    option: str | None = None
    help: str = ""
    panel: str | None = None
    choices: Collection[str] = ()
    low: float = -INFINITY
    high: float = INFINITY
    below: float = INFINITY
    above: float = -INFINITY

    def admits(self, value: float) -> bool:
        return self.low <= value <= self.high and self.above < value < self.below

    @property
    def range(self) -> str:
        """The range in words."""
        if self.above == 0:
            return "be positive"
        if self.above > -INFINITY:
            return f"be more than {self.above:g}"
        if self.high < INFINITY:
            return f"lie in [{self.low:g}, {self.high:g}]"
        return f"lie in [{self.low:g}, {self.below:g})" if self.below < INFINITY else f"be at least {self.low:g}"


def setting(
    default: T | Required = Required.YES,
    option: str | None = None,
    help: str = "",
    *,
    panel: str | None = None,
    choices: Collection[str] = (),
    low: float = -INFINITY,
    high: float = INFINITY,
    below: float = INFINITY,
    above: float = -INFINITY,
) -> T:
    """A dataclass's field with an `About`, of which the rest are the fields."""
    about = {"about": About(option, help, panel, choices, low, high, below, above)}
    if isinstance(default, Required):
        return cast("T", dataclasses.field(metadata=about))
    return dataclasses.field(default=default, metadata=about)


def settings(record: Record | type[Record]) -> Iterator[tuple[str, About]]:
    """The settings of a record, or of its class, by name."""
    return ((field.name, field.metadata["about"]) for field in dataclasses.fields(record) if "about" in field.metadata)


def check(record: Record, error: type[ValueError] = ValueError) -> None:
    """Raise `error`, with the name, the value and what is allowed, where a setting is out of its range."""
    plain = {field.name: field.default for field in dataclasses.fields(record)}
    for name, known in settings(record):
        value = getattr(record, name)
        if known.choices and value not in known.choices:
            raise error(f"{name}={value!r} is unknown; use {', '.join(known.choices)}")
        if isinstance(value, (int, float)) and not known.admits(value):
            raise error(f"{name}={value} must {known.range}{', or None' if plain[name] is None else ''}")
