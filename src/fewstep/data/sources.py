"""Pictures with captions, from wherever they lie: a folder, Hugging Face datasets, or WebDataset tars."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fewstep.errors import FewstepError, NotInstalled

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
CAPTION_KEYS = ("text", "caption", "prompt", "captions", "description", "label")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class InvalidData(FewstepError):
    """There are no pictures where some were promised, or what describes them cannot be read."""


@dataclass(frozen=True)
class Example:
    """One picture, not yet decoded, and what it shows; several captions are alternatives, drawn anew each time."""

    name: str
    picture: Path | bytes | None
    captions: tuple[str, ...]


class Source(Protocol):
    """Examples in a fixed order. `digest` changes whenever they do."""

    @property
    def where(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def __iter__(self) -> Iterator[Example]: ...


def open_source(where: str | Path, *, image_column: str | None = None, caption_column: str | None = None) -> Source:
    """The source that a name means: a folder of pictures, tars (`shards-{00..09}.tar`), or a dataset's folder or id.

    Raises `InvalidData`, and `NotInstalled` where the library for that kind is missing.
    """
    path = Path(where).expanduser()
    if str(where).endswith(".tar") or (path.is_dir() and not _pictures(path) and list(path.glob("*.tar"))):
        return Tars(str(where), caption_column)
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json")) or (
            not _pictures(path) and list(path.rglob("*.parquet"))
        ):
            return HuggingFace(str(where), image_column, caption_column)
        return Folder(path)
    if path.exists():
        raise InvalidData(f"{path} is a file; give the folder of the pictures, a .tar, or a dataset's id")
    if _HUB_ID.fullmatch(str(where)):
        return HuggingFace(str(where), image_column, caption_column)
    raise InvalidData(f"there are no pictures at {where}: give a folder, .tar files, or a dataset's id (owner/name)")


@dataclass(frozen=True)
class Folder:
    """Every picture below a folder, by name. Captions, in this order: `metadata.jsonl`, a `.txt` beside the picture
    (a caption a line), or the file's name.
    """

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def digest(self) -> str:
        return _digest(
            [str(each.picture), stat.st_size, stat.st_mtime_ns, each.captions]
            for each in self
            if isinstance(each.picture, Path) and (stat := each.picture.stat())
        )

    def __iter__(self) -> Iterator[Example]:
        described = self._described()
        files = _pictures(self.path)
        if not files:
            raise InvalidData(f"{self.path} holds no pictures ({', '.join(PICTURES)}), at any depth")
        for file in files:
            name = file.relative_to(self.path).as_posix()
            yield Example(name, file, described.get(name) or _beside(file) or (caption_of_name(file.stem),))

    def _described(self) -> dict[str, tuple[str, ...]]:
        captions: dict[str, tuple[str, ...]] = {}
        for listing in sorted(self.path.rglob("metadata.jsonl")):
            home = listing.parent.relative_to(self.path)
            for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    name = (home / row["file_name"]).as_posix()
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    raise InvalidData(f'{listing}, line {number}, is not a JSON object with "file_name"') from error
                if found := _captions(row, None):
                    captions[name] = found
        return captions


@dataclass(frozen=True)
class HuggingFace:
    """A dataset of the `datasets` library: an id on the hub, a folder that it saved, or parquet files."""

    name: str
    image_column: str | None = None
    caption_column: str | None = None

    @property
    def where(self) -> str:
        return self.name

    @property
    def digest(self) -> str:
        return str(self._rows()[0]._fingerprint)

    def __iter__(self) -> Iterator[Example]:
        rows, column = self._rows()
        for index, row in enumerate(rows):
            raw = row[column] or {}
            picture = raw.get("bytes") or (Path(raw["path"]) if raw.get("path") else None)
            yield Example(raw.get("path") or f"row {index}", picture, _captions(row, self.caption_column) or ("",))

    def _rows(self) -> tuple[Any, str]:
        """The rows, pictures undecoded (a corrupt one must not stop the others), and the pictures' column."""
        _require("datasets")
        import datasets

        path = Path(self.name).expanduser()
        try:
            if path.is_dir() and list(path.rglob("*.parquet")):
                files = [str(file) for file in sorted(path.rglob("*.parquet"))]
                rows = datasets.load_dataset("parquet", data_files=files, split="train")
            else:
                rows = datasets.load_from_disk(str(path)) if path.is_dir() else datasets.load_dataset(self.name)
        except (OSError, ValueError, ConnectionError) as error:
            raise InvalidData(f"the dataset {self.name} cannot be read: {_first_line(error)}") from error
        if isinstance(rows, datasets.DatasetDict):
            rows = rows["train"] if "train" in rows else next(iter(rows.values()))
        images = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        column: str = self.image_column or next(iter(images), "image")
        if column not in rows.features or (self.caption_column and self.caption_column not in rows.features):
            raise InvalidData(
                f"the dataset {self.name} has the columns {', '.join(rows.features)}; name the one with the pictures "
                "(--image-column) and the one with the captions (--caption-column)"
            )
        return rows.cast_column(column, datasets.Image(decode=False)), column


@dataclass(frozen=True)
class Tars:
    """WebDataset tars: `NAME.jpg` (or .png, .webp) with `NAME.txt`, or `NAME.json` that has a caption."""

    pattern: str
    caption_column: str | None = None

    @property
    def where(self) -> str:
        return self.pattern

    @property
    def files(self) -> list[Path]:
        path = Path(self.pattern).expanduser()
        names = sorted(path.glob("*.tar")) if path.is_dir() else [Path(name) for name in _braces(str(path))]
        if missing := [name for name in names if not name.is_file()]:
            raise InvalidData(f"there is no {missing[0]}")
        return names

    @property
    def digest(self) -> str:
        return _digest([str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in self.files)

    def __iter__(self) -> Iterator[Example]:
        _require("webdataset")
        import webdataset

        for file in self.files:
            try:
                for sample in webdataset.WebDataset([str(file)], shardshuffle=False, empty_check=False):
                    if (example := self._example(sample)) is not None:
                        yield example
            except (OSError, ValueError) as error:
                raise InvalidData(f"{file} cannot be read as a tar: {_first_line(error)}") from error

    def _example(self, sample: Mapping[str, Any]) -> Example | None:
        pictures = [key for key in sample if f".{key.rpartition('.')[2]}" in PICTURES]
        if not pictures:
            return None
        row: dict[str, Any] = {}
        if "json" in sample:
            try:
                loaded = json.loads(sample["json"])
                row = loaded if isinstance(loaded, dict) else {}
            except ValueError:
                row = {}
        texts = _lines(sample["txt"].decode("utf-8", "replace")) if "txt" in sample else ()
        captions = _captions(row, self.caption_column) or texts or ("",)
        return Example(str(sample["__key__"]), sample[pictures[0]], captions)


def caption_of_name(stem: str) -> str:
    """What a file's name says: "red_fox-02" is a red fox."""
    words = re.sub(r"[_\-.]+", " ", stem)
    return re.sub(r"(?:\s+|(?<=[a-z]))\(?\d+\)?$", "", words).strip()


def _pictures(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _beside(picture: Path) -> tuple[str, ...]:
    text = picture.with_suffix(".txt")
    return _lines(text.read_text(encoding="utf-8", errors="replace")) if text.is_file() else ()


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _captions(row: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    value = next((row[key] for key in ((column,) if column else CAPTION_KEYS) if row.get(key)), None)
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(each.strip() for each in values if isinstance(each, str) and each.strip())


def _digest(rows: Iterator[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


def _braces(pattern: str) -> list[str]:
    """shards-{00..02}.tar as three names."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if found is None:
        return [pattern]
    low, high = found.groups()
    whole = [pattern.replace(found[0], str(i).zfill(len(low)), 1) for i in range(int(low), int(high) + 1)]
    return [name for each in whole for name in _braces(each)]


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise NotInstalled(f"this needs the package {package!r}; install it with: pip install 'fewstep[train]'")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
