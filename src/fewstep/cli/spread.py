"""Commands that take records: `spread` shows typer an option for every field of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, TypeVar, get_args, get_origin, get_type_hints

Result = TypeVar("Result")


@dataclass(frozen=True)
class Table:
    """Options that are no dataclass's fields, as (name, Annotated[type, typer.Option(...)], default) each.

    A parameter `values: Annotated[Mapping[str, Value], Table(rows)]` of a command is passed their values by name.
    """

    rows: tuple[tuple[str, object, object], ...]


def spread(command: Callable[..., Result]) -> Callable[..., Result]:
    """`command` as typer is to see it.

    In the place of each parameter whose type is a dataclass there are that dataclass's fields, and in the place of each
    whose annotation holds a `Table` that table's rows; all others stay. Types, options and help are the fields'
    annotations, defaults the fields' defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, list[Parameter]]] = {}
    shown: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if (group := _group(hints[name])) is None:
            shown.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))
        else:
            groups[name] = group
            shown += group[1]

    @functools.wraps(command)
    def spread_out(**given: object) -> Result:
        records = {
            name: make(**{each.name: given.pop(each.name) for each in rows}) for name, (make, rows) in groups.items()
        }
        return command(**given, **records)

    spread_out.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    spread_out.__annotations__ = {each.name: each.annotation for each in shown}
    return spread_out


def _group(annotation: object) -> tuple[type, list[Parameter]] | None:
    """What makes the record, and its parameters; None for an option of its own."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation, [_parameter(*row) for row in _fields_of(annotation)]
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for table in extras:
        if isinstance(table, Table):
            return dict, [_parameter(*row) for row in table.rows]
    return None


def _fields_of(record: type) -> Iterator[tuple[str, object, object]]:
    hints: Mapping[str, object] = get_type_hints(record, include_extras=True)
    for field in dataclasses.fields(record):
        default = Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield field.name, hints[field.name], default


def _parameter(name: str, annotation: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
