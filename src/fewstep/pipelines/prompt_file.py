"""Many pictures from a file: a line, a row or an object for each, checked before the first is generated."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.files import Json
from fewstep.imaging.reading import read_image
from fewstep.pipelines.field import Field
from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.request import Control, Request

# a column for each field of one picture, and `name`
COLUMNS = [name for name, field in FIELDS.items() if field.type not in ("pictures", "weights") and name != "num_images"]
_JSON = re.compile(r'\s*\{\s*"')  # how an object begins, and hardly a prompt
_NAME = re.compile(r"[^\\/:*?\"<>|\0]{1,200}")


@dataclass(frozen=True)
class NamedRequest:
    """One picture: its file's name, without folder and ending, and the request that makes it."""

    name: str
    request: Request

    def goes_with(self, other: NamedRequest) -> bool:
        """Whether both can be generated in one batch: they differ in words and seed alone."""
        return self.request.image is None and self.request.but_for(other.request)


def read_prompts(
    path: Path,
    defaults: Mapping[str, Any],
    controls: Mapping[str, Control] | None = None,
    text: str | None = None,
    form: str | None = None,
) -> list[NamedRequest]:
    """The pictures that a file asks for, with `defaults` where a row says nothing, all steered by `controls`.

    text  what came in place of a file's content, which `path` then only names
    form  "txt", "csv" or "jsonl"; None: as the file's name ends, and for a text as its first line looks (txt or jsonl)

    .txt    a prompt a line
    .csv    a head with the names of the fields, then rows
    .jsonl  an object a line

    Fields: `COLUMNS`, of which seed is by default the number of the row, from 0, and image and mask are paths, from the
    file's folder; and name (of the picture; default: its number).
    Raises `InvalidRequest` for the first row that cannot be generated, with its number.
    """
    rows = list(_rows(path, text, form))
    if not rows:
        raise InvalidRequest(f"{path} asks for no pictures")
    digits = len(str(len(rows)))
    requests: list[NamedRequest] = []
    names: set[str] = set()
    for number, row in enumerate(rows):
        try:
            one = _named_request({**defaults, **row}, controls, number, digits, path.parent)
        except FewstepError as error:
            raise InvalidRequest(f"{path}, picture {number + 1}: {error}") from error
        if one.name.lower() in names:
            raise InvalidRequest(f"{path}, picture {number + 1}: another one is named {one.name!r}, too")
        names.add(one.name.lower())
        requests.append(one)
    return requests


def batches(requests: list[NamedRequest], size: int) -> Iterator[list[NamedRequest]]:
    """Neighbours that can be generated together, at most `size` at a time."""
    batch: list[NamedRequest] = []
    for one in requests:
        if batch and (len(batch) == size or not one.goes_with(batch[0])):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _rows(path: Path, text: str | None, form: str | None) -> Iterator[Mapping[str, Json]]:
    if text is None:
        form = form or path.suffix.lower().removeprefix(".") or "unknown"
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{path} cannot be read as text: {getattr(error, 'strerror', error)}") from error
    lines = text.split("\n")  # and nowhere else: a cell, or a string of JSON, may hold any other sign
    match form or ("jsonl" if _JSON.match(text) else "txt"):
        case "txt":
            yield from ({"prompt": line.strip()} for line in lines if line.strip())
        case "csv":
            yield from _csv(text, path)
        case "jsonl":
            for number, line in enumerate(lines):
                if line.strip():
                    yield _object(line, f"{path}, line {number + 1}")
        case _:
            raise InvalidRequest(
                f"{path}: give a .txt, .csv or .jsonl file, or say which with --format txt, csv or jsonl"
            )


def _csv(text: str, path: Path) -> Iterator[Mapping[str, Json]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="(more fields than the head has)")
    try:
        for row in reader:
            yield {name: value for name, value in row.items() if value not in ("", None)}
    except csv.Error as error:
        raise InvalidRequest(f"{path} is not CSV after line {reader.line_num}: {error}") from error


def _object(line: str, where: str) -> Mapping[str, Json]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where} is not a JSON object")
    return {name: value for name, value in row.items() if value is not None}


def _named_request(
    row: Mapping[str, Any], controls: Mapping[str, Control] | None, number: int, digits: int, folder: Path
) -> NamedRequest:
    if unknown := sorted(map(str, set(row) - {*COLUMNS, "name"})):
        raise InvalidRequest(f"unknown field {unknown[0][:60]!r}; there are {', '.join(COLUMNS)}, name")
    if "prompt" not in row:
        raise InvalidRequest("it has no prompt")
    name = str(row.get("name", f"{number + 1:0{digits}}")).removesuffix(".png")
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise InvalidRequest(f"the name {name[:60]!r} is none for a file")
    values = {column: _value(FIELDS[column], row[column], folder) for column in COLUMNS if column in row}
    prompt = understood(values.pop("prompt"))
    seed = values.pop("seed", number)
    if "negative_prompt" in values:
        values["negative_prompt"] = understood(values["negative_prompt"], negative=True).text
    return NamedRequest(name, Request.of(prompt.text, seed, loras=prompt.loras or None, controls=controls, **values))


def _value(field: Field, value: Any, folder: Path) -> Any:
    """CSV has only text, JSON has lists; pictures are files."""
    if field.type == "picture":
        return read_image(folder / value)
    if isinstance(value, str):
        return field.read(value)
    return tuple(value) if isinstance(value, list) else value
