"""Settings: the fields of a record, each with its range and with what people are told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

INFINITY = float("inf")
Value = str | float | tuple[str, ...] | tuple[float, ...] | None


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


def setting(default: Any = dataclasses.MISSING, option: str | None = None, help: str = "", **about: Any) -> Any:
    """A dataclass's field with an `About`; the rest are the names in it."""
    return dataclasses.field(default=default, metadata={"about": About(option, help, **about)})


def about(field: dataclasses.Field[Any]) -> About:
    """What is known of a field."""
    found = field.metadata.get("about")
    return found if isinstance(found, About) else About()


def settings(record: Any) -> Iterator[tuple[dataclasses.Field[Any], About]]:
    """The fields of a record, or of its class, that are settings."""
    return ((field, field.metadata["about"]) for field in dataclasses.fields(record) if "about" in field.metadata)


def check(record: Any, error: type[ValueError] = ValueError) -> None:
    """Raise `error`, with the name, the value and what is allowed, where a setting is out of its range."""
    for field, known in settings(record):
        value = getattr(record, field.name)
        if known.choices and value not in known.choices:
            raise error(f"{field.name}={value!r} is unknown; use {', '.join(known.choices)}")
        if isinstance(value, (int, float)) and not known.admits(value):
            otherwise = ", or None" if field.default is None else ""
            raise error(f"{field.name}={value} must {known.range}{otherwise}")
