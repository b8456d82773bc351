"""The config of a part or of a folder, as JSON holds it, and its entries as what they must be.

A null is as if nothing were said. All raise `InvalidModel` for an entry of another type, and for one that is missing
where `otherwise` does not say what holds then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewstep.errors import InvalidModel
from fewstep.files import Json

Config = Mapping[str, Json]


def class_name(config: Config) -> str:
    """As diffusers writes it into a network's config, or transformers."""
    match config:
        case {"_class_name": str(name)} | {"architectures": [str(name), *_]}:
            return name
    return "(unnamed)"


def text(config: Config, name: str, otherwise: str | None = None) -> str:
    value = _given(config, name, otherwise)
    if isinstance(value, str):
        return value
    raise _wrong(name, value, "text")


def whole(config: Config, name: str, otherwise: int | None = None) -> int:
    value = _given(config, name, otherwise)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(name, value, "a whole number")


def number(config: Config, name: str, otherwise: float | None = None) -> float:
    value = _given(config, name, otherwise)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _wrong(name, value, "a number")


def wholes(config: Config, name: str, otherwise: Sequence[int] | None = None) -> tuple[int, ...]:
    value = _given(config, name, otherwise)
    if isinstance(value, list | tuple):
        found = tuple(each for each in value if isinstance(each, int) and not isinstance(each, bool))
        if len(found) == len(value):
            return found
    raise _wrong(name, value, "a list of whole numbers")


def _given(config: Config, name: str, otherwise: Json) -> Json:
    value = config.get(name)
    return otherwise if value is None else value


def _wrong(name: str, value: Json, wanted: str) -> InvalidModel:
    said = "is missing in a config" if value is None else f"is {str(value)[:60]!r} in a config"
    return InvalidModel(f"{name} {said}; it must be {wanted}")
