"""The table of fields as pydantic has it: the types, ranges and help of what the server's doors take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from fewstep.pipelines.fields import FIELDS, Settings

MAX_STEPS = FIELDS["steps"].served or 0

Model = TypeVar("Model", bound="Asked")
_Time = Annotated[int, Field(ge=0, le=int(FIELDS["timesteps"].high))]

_TYPES: Mapping[str, type | UnionType] = {
    "text": str,
    "whole": int | None,
    "number": float | None,
    "switch": bool,
    "choice": str | None,
}
_DEFAULTS = {"text": "", "switch": False}


class _Limits(TypedDict, total=False):
    gt: float
    ge: float
    le: float
    min_length: int
    max_length: int | None


def served(name: str) -> FieldInfo:
    """The range and the help of a field of the table, for an annotation: `Annotated[int | None, served("steps")]`."""
    field = FIELDS[name]
    limits: _Limits = {}
    match field.type:
        case "whole" | "number":
            low, high = field.low, field.high if field.served is None else field.served
            if field.type == "whole":  # a schema says 1 and not 1.0
                low, high = int(low), int(high)
            limits = {"gt": low} if field.zero and field.off is None else {"ge": low}
            limits["le"] = high
        case "text" | "weights" | "pictures":
            limits = {"max_length": field.served}
        case "times":
            limits = {"min_length": 1, "max_length": field.served}
    info: FieldInfo = Field(description=field.hint or field.description, **limits)
    return info


class Message(BaseModel):
    """What travels; a field that nobody knows is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Asked(Message):
    """A message that asks for pictures; `asking` gives it the table's settings."""

    timesteps: Annotated[tuple[_Time, ...] | None, served("timesteps")] = None
    variation_seed: Annotated[int | None, served("variation_seed")] = None

    @property
    def settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})


def asking(model: type[Model]) -> type[Model]:
    """`model` with a field for each of `Settings`, by the table, where it has none of its own."""
    names = [each.name for each in dataclasses.fields(Settings) if each.name not in model.model_fields]
    types = {name: Annotated[_TYPES[FIELDS[name].type], served(name)] for name in names}
    rows: dict[str, Any] = {name: (type_, _DEFAULTS.get(FIELDS[name].type)) for name, type_ in types.items()}
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **rows)
