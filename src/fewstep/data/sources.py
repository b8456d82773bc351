"""Pictures with captions, from wherever they lie: a folder, Hugging Face datasets, or WebDataset tars."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewstep.data.example import Example, Source, digest_of
from fewstep.data.folder import Folder, caption_lines, not_in_utf8
from fewstep.data.listing import CAPTION_KEYS, captions_of
from fewstep.data.text import decoded
from fewstep.data.walk import PICTURES, contents, few
from fewstep.errors import FewstepWarning, InvalidData, NotInstalled

SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")  # of `datasets`' save_to_disk
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def open_source(where: str | Path, *, image_column: str | None = None, caption_column: str | None = None) -> Source:
    """The source that a name means: a folder of pictures, tars (`shards-{00..09}.tar`), or a dataset's folder or id.

    Raises `InvalidData`, and `NotInstalled` where the library for that kind is missing.
    """
    path = Path(where).expanduser()
    if str(where).endswith(".tar"):
        return Tars(str(where), caption_column)
    if path.is_dir():
        if any((path / name).is_file() for name in SAVED):
            return HuggingFace(str(where), image_column, caption_column)
        if not (found := contents(path)).pictures:
            if list(path.glob("*.tar")):
                return Tars(str(where), caption_column)
            if any(file.suffix == ".parquet" for file in found.others):
                return HuggingFace(str(where), image_column, caption_column)
        return Folder(path, image_column, caption_column)
    if path.exists():
        raise InvalidData(f"{path} is a file; give the folder of the pictures, a .tar, or a dataset's id")
    if _HUB_ID.fullmatch(str(where)):
        return HuggingFace(str(where), image_column, caption_column)
    raise InvalidData(f"there are no pictures at {where}: give a folder, .tar files, or a dataset's id (owner/name)")


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
        captions = self._caption_column(rows.features)
        if captions is None:
            warnings.warn(
                f"the dataset {self.name} has the columns {', '.join(rows.features)}, none of them a caption: its "
                "pictures are learnt without words; name the one with the captions (--caption-column)",
                FewstepWarning,
                stacklevel=2,
            )
        for index, row in enumerate(rows):
            raw = row[column] or {}
            picture = raw.get("bytes") or (Path(raw["path"]) if raw.get("path") else None)
            name, texts = raw.get("path") or f"row {index}", None
            if captions is not None:
                kind, value = rows.features[captions], row[captions]
                named = hasattr(kind, "int2str") and isinstance(value, int)  # a class, by its number
                where = f"the dataset {self.name}, row {index}"
                texts = captions_of({captions: kind.int2str(value) if named else value}, captions, where)
            yield Example(name, picture, texts or ("",))

    def _caption_column(self, features: Mapping[str, Any]) -> str | None:
        """The one that was named, else the first that is called as captions are and holds text or classes."""
        if self.caption_column is not None:
            return self.caption_column
        texts = ("string", "large_string")
        for name in (name for name in CAPTION_KEYS if name in features):
            kind = features[name]
            inner = getattr(kind, "feature", kind[0] if isinstance(kind, list) else kind)
            if getattr(inner, "dtype", None) in texts or hasattr(kind, "int2str"):
                return name
        return None

    def _rows(self) -> tuple[Any, str]:
        """The rows, pictures undecoded (a corrupt one must not stop the others), and the pictures' column."""
        _require("datasets")
        import datasets

        path = Path(self.name).expanduser()
        try:
            others = contents(path).others if path.is_dir() else []
            if files := [str(file) for file in others if file.suffix == ".parquet"]:
                rows = datasets.load_dataset("parquet", data_files=files, split="train")
            else:
                rows = datasets.load_from_disk(str(path)) if path.is_dir() else datasets.load_dataset(self.name)
        except (OSError, ValueError, ConnectionError) as error:
            raise InvalidData(f"the dataset {self.name} cannot be read: {_first_line(error)}") from error
        if isinstance(rows, datasets.DatasetDict):
            if "train" not in rows and len(rows) > 1:
                raise InvalidData(f"the dataset {self.name} has the parts {', '.join(rows)}, and none is called train")
            rows = rows["train"] if "train" in rows else next(iter(rows.values()))
        images = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        column: str = self.image_column or (images[0] if len(images) == 1 else "image")
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
        return digest_of([str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in self.files)

    def __iter__(self) -> Iterator[Example]:
        _require("webdataset")
        import webdataset

        guessed: list[str] = []
        count, silent = 0, list[str]()
        for file in self.files:
            try:
                for sample in webdataset.WebDataset([str(file)], shardshuffle=False, empty_check=False):
                    if (example := self._example(sample, guessed)) is not None:
                        count += 1
                        silent += [example.name] if example.captions == ("",) else []
                        yield example
            except (OSError, ValueError) as error:
                raise InvalidData(f"{file} cannot be read as a tar: {_first_line(error)}") from error
        notes = [f"{len(silent)} of {count} pictures have no caption: {few(silent)}"] if silent else []
        for each in notes + ([not_in_utf8(guessed)] if guessed else []):
            warnings.warn(each, FewstepWarning, stacklevel=2)

    def _example(self, sample: Mapping[str, Any], guessed: list[str]) -> Example | None:
        pictures = [key for key in sample if f".{key.rpartition('.')[2]}".lower() in PICTURES]
        if not pictures:
            return None
        name, picture = str(sample["__key__"]), sample[pictures[0]]
        try:
            return Example(name, picture, tuple(self._captions(sample, name, guessed) or ("",)))
        except InvalidData as error:
            return Example(name, picture, (), str(error))

    def _captions(self, sample: Mapping[str, Any], name: str, guessed: list[str]) -> Sequence[str] | None:
        said = None
        if "json" in sample:
            try:
                row = json.loads(decoded(sample["json"], f"the .json of {name}", guessed))
            except ValueError as error:
                raise InvalidData(f"the .json of {name} is no JSON") from error
            if not isinstance(row, dict) or (self.caption_column is not None and self.caption_column not in row):
                raise InvalidData(f"the .json of {name} is no object with {self.caption_column or 'a caption'!r}")
            said = captions_of(row, self.caption_column, f"the .json of {name}")
        if said is None and "txt" in sample:
            return caption_lines(decoded(sample["txt"], f"the .txt of {name}", guessed))
        return said


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
