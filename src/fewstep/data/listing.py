"""Listings of pictures and their captions, as `datasets` reads them beside pictures: metadata.jsonl, .csv, .parquet."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewstep.data.text import lines_of, read_text
from fewstep.errors import InvalidData, NotInstalled

LISTINGS = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
CAPTION_KEYS = ("text", "caption", "prompt", "captions", "description", "label")
FILE = "file_name"


def listed_captions(
    folder: Path,
    listings: Sequence[Path],
    files: Sequence[Path],
    image_column: str | None,
    caption_column: str | None,
    guessed: list[str],
) -> dict[Path, tuple[str, ...]]:
    """The captions that `listings` give to files below `folder`; of several rows for one file, all.

    files    all that a row may name
    guessed  gets the listings that had to be read in `text.FALLBACK`

    A row names its file from the listing's folder, or from one around it; where no file has that very name, one that
    differs in case or in the way that accents are written, if it is the only one. Raises `InvalidData`, naming listing
    and row, for a name that means no file or several, and for rows without caption.
    """
    _check_alone(listings)
    rows = [row for listing in listings for row in _rows(listing, image_column, caption_column, guessed)]
    names = _Names(folder, files)
    exact = [names.exactly(row) for row in rows]
    claimed = {file: (row.listing, row.name) for row, file in zip(rows, exact, strict=True) if file is not None}
    captions: dict[Path, tuple[str, ...]] = defaultdict(tuple)
    for row, file in zip(rows, exact, strict=True):
        if file is None:
            file = names.nearly(row)
            listing, name = claimed.setdefault(file, (row.listing, row.name))
            if (listing, name) != (row.listing, row.name):
                raise InvalidData(
                    f"{row.where}: there is no picture {row.name!r} in {row.listing.parent}; it could mean {file}, "
                    f"which {listing} has as {name!r}"
                )
        captions[file] += tuple(caption for caption in row.captions or () if caption not in captions[file])
    return dict(captions)


@dataclass(frozen=True)
class _Row:
    """A row of `listing`, `where` in words, with the file's name and its captions (None: not said)."""

    listing: Path
    where: str
    name: str
    captions: tuple[str, ...] | None


def captions_of(row: Mapping[str, Any], column: str | None, where: str) -> tuple[str, ...] | None:
    """A row's captions; "" is the empty one, None where it says nothing. Raises `InvalidData` for what is no text."""
    said = [row[key] for key in ((column,) if column else CAPTION_KEYS) if row.get(key) is not None]
    value = next((each for each in said if each), said[0] if said else None)
    values: list[Any] = value if isinstance(value, list) else [value]
    if value is None or not values:
        return None
    if wrong := [each for each in values if not isinstance(each, str)]:
        raise InvalidData(f"{where}: its caption is {wrong[0]!r:.60}, which is no text")
    if any("\ud800" <= letter <= "\udfff" for each in values for letter in each):
        raise InvalidData(f"{where}: its caption holds halves of letters (\\ud800 to \\udfff)")
    return tuple(dict.fromkeys(each.strip() for each in values))


def check_caption_column(columns: Sequence[str], column: str | None, where: str) -> None:
    """Raises `InvalidData` where no column holds captions."""
    if column not in columns if column else not set(columns) & set(CAPTION_KEYS):
        raise InvalidData(
            f"{where} has the columns {', '.join(columns)}, and not {repr(column) if column else 'one for captions'}: "
            "name the one with the captions (--caption-column)"
        )


class _Names:
    """Files by the names that rows give them."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.root = folder
        self.files = {file.relative_to(folder).as_posix(): file for file in files}
        self.alike: dict[str, list[Path]] = defaultdict(list)
        for name, file in self.files.items():
            self.alike[folded(name)].append(file)

    def exactly(self, row: _Row) -> Path | None:
        home = row.listing.parent.relative_to(self.root)
        names = (posixpath.normpath((home / name).as_posix()) for name in (row.name, _slashed(row)))
        return next((self.files[name] for name in names if name in self.files), None)

    def nearly(self, row: _Row) -> Path:
        meant = list(self._meant(row))
        if file := next((self.files[name] for name in meant if name in self.files), None):
            return file
        for found in (self.alike[folded(name)] for name in meant if folded(name) in self.alike):
            if len(found) == 1:
                return found[0]
            raise InvalidData(
                f"{row.where}: {row.name!r} could mean {' or '.join(str(file) for file in found)}: write the file's "
                "own name"
            )
        raise InvalidData(f"{row.where}: there is no picture {row.name!r} in {row.listing.parent}")

    def _meant(self, row: _Row) -> Iterator[str]:
        """The names from the root that a row can mean: from its listing's folder, then from each one around that."""
        name = _slashed(row)
        home = row.listing.parent.relative_to(self.root)
        for place in (home, *home.parents):
            yield posixpath.normpath((place / name).as_posix())
        parts, around = name.split("/"), self.root.absolute().parts
        for count in range(1, min(len(parts), len(around))):  # in /data/cats: cats/a.png, data/cats/a.png
            if tuple(parts[:count]) == around[-count:]:
                yield "/".join(parts[count:])


def _slashed(row: _Row) -> str:
    """A row's name with slashes between folders. Raises `InvalidData` for an absolute one, and for an address."""
    name = posixpath.normpath(row.name.replace("\\", "/"))
    if posixpath.isabs(name) or "://" in row.name or re.match(r"[A-Za-z]:/", name):
        raise InvalidData(f"{row.where}: {row.name!r} must be a file's name from {row.listing.parent} on")
    return name


def folded(name: str) -> str:
    """The same for names that differ in case, or in the way that accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_alone(listings: Sequence[Path]) -> None:
    homes: dict[Path, Path] = {}
    for listing in listings:
        if (other := homes.setdefault(listing.parent, listing)) != listing:
            raise InvalidData(f"{other} and {listing.name} both describe the same folder: leave one of them")


def _rows(listing: Path, image_column: str | None, caption_column: str | None, guessed: list[str]) -> Iterator[_Row]:
    if listing.suffix.lower() == ".parquet":
        rows = list(_parquet(listing))
    else:
        text = read_text(listing, guessed)
        rows = list(_csv(listing, text) if listing.suffix.lower() == ".csv" else _jsonl(listing, text))
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    if not rows:
        return
    file_column = _file_column(columns, image_column, listing)
    check_caption_column(columns, caption_column, str(listing))
    for where, row in rows:
        name = row.get(file_column)
        if not isinstance(name, str) or not name.strip():
            raise InvalidData(f"{where}: its {file_column} is {name!r:.60}; it must be the name of a picture")
        yield _Row(listing, where, name.strip(), captions_of(row, caption_column, f"{where} ({name})"))


def _file_column(columns: Sequence[str], image_column: str | None, listing: Path) -> str:
    """As `datasets` knows it: file_name, or SOMETHING_file_name for the picture SOMETHING."""
    of_files = [name for name in columns if name == FILE or name.endswith(f"_{FILE}")]
    wanted = [FILE] if image_column is None else [image_column, f"{image_column}_{FILE}"]
    found = next((name for name in wanted if name in columns), None)
    if found is None and image_column is None and len(of_files) == 1:
        found = of_files[0]
    if found is None:
        raise InvalidData(
            f"{listing} has the columns {', '.join(columns)}: the one with the names of the pictures is to be called "
            f'"{FILE}", or named with --image-column'
        )
    return found


def _jsonl(listing: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            where = f"{listing}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidData(f"{where}, is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise InvalidData(f'{where}, is not a JSON object with "{FILE}"')
            yield where, row


def _csv(listing: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    head = lines_of(text)[0]
    delimiter = next((each for each in (",", ";", "\t") if FILE in head and each in head), ",")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(rows, start=1):
            where = f"{listing}, row {number}"
            if None in row:
                raise InvalidData(f"{where} has more fields than the head: put a caption with {delimiter!r} in quotes")
            yield where, {name: value or None for name, value in row.items()}
    except csv.Error as error:
        raise InvalidData(f"{listing}, line {rows.line_num}, is no CSV: {error}") from error


def _parquet(listing: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if find_spec("pyarrow") is None:
        raise NotInstalled(f"{listing} needs the package 'pyarrow'; install it with: pip install 'fewstep[train]'")
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows = pyarrow.parquet.read_table(listing).to_pylist()
    except (OSError, ValueError) as error:
        raise InvalidData(f"{listing} cannot be read as parquet: {error}") from error
    yield from ((f"{listing}, row {number}", row) for number, row in enumerate(rows, start=1))
