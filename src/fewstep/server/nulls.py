"""`null` for "not given": clients that send every field they know write it, and the APIs that they know take it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator


class NullIsAbsent(BaseModel):
    """A field that is null has its default, as if it had been left out; where there is none, it is missing."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return without_nulls(given) if isinstance(given, dict) else given


def without_nulls(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, that is: what is not null."""
    return {name: value for name, value in given.items() if value is not None}
