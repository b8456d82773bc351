"""`null` for "not given": clients that send every field they know write it, and the APIs that they know take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, model_validator

Value = TypeVar("Value")
Other = TypeVar("Other")


class NullIsAbsent(BaseModel):
    """A field that is null has its default, as if it had been left out; where there is none, it is missing."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: dict[str, Value | None] | Other) -> dict[str, Value] | Other:
        return without_nulls(given) if isinstance(given, dict) else given


def without_nulls(given: Mapping[str, Value | None]) -> dict[str, Value]:
    """What was given, that is: what is not null."""
    return {name: value for name, value in given.items() if value is not None}
