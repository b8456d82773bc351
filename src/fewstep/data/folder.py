"""A folder of pictures, at any depth: captions from listings, from files beside the pictures, or from their names."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.example import Example, digest_of
from fewstep.data.listing import LISTINGS, folded, listed_captions
from fewstep.data.text import FALLBACK, decoded, lines_of, read_text
from fewstep.data.walk import PICTURES, Contents, contents, few, shown
from fewstep.errors import FewstepWarning, InvalidData

BESIDE = (".txt", ".caption")


@dataclass(frozen=True)
class Folder:
    """Every picture below a folder, by name. Captions, in this order: `metadata.jsonl` (or .csv, .parquet), a `.txt`
    (or .caption) beside the picture (a caption a line; an empty file is the empty caption), or the file's name.

    Raises `InvalidData` as it begins, before the first picture, for captions that cannot be read or that belong to
    nothing; what is usable, but perhaps not as it is meant, is said by a `FewstepWarning`.
    """

    path: Path
    image_column: str | None = None
    caption_column: str | None = None

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def digest(self) -> str:
        return digest_of(
            [str(each.picture), stat.st_size, stat.st_mtime_ns, each.captions]
            for each in self._read().examples
            if each.problem is None and isinstance(each.picture, Path) and (stat := each.picture.stat())
        )

    def __iter__(self) -> Iterator[Example]:
        found = self._read()
        for note in found.notes:
            warnings.warn(note, FewstepWarning, stacklevel=2)
        yield from found.examples

    def _read(self) -> _Read:
        found = contents(self.path)
        if not found.pictures:
            raise InvalidData(
                f"{self.path} holds no pictures ({', '.join(PICTURES)}), at any depth"
                + "".join(f"; {note}" for note in found.notes())
            )
        guessed: list[str] = []
        listings = [file for file in found.others if file.name.lower() in LISTINGS]
        files = [*found.pictures, *found.left_out]
        listed = listed_captions(self.path, listings, files, self.image_column, self.caption_column, guessed)
        beside = _Beside(found)
        captions = {file: listed.get(file) or beside.captions(file, guessed) for file in found.pictures}
        examples = [
            Example(self._name(file), file, of_file or (self._caption_of_name(file, guessed),))
            for file, of_file in captions.items()
        ]
        examples += [Example(self._name(file), file, (), reason) for file, reason in found.left_out.items()]
        silent = [self._name(file) for file, of_file in captions.items() if of_file is None]
        notes = []
        if silent and len(silent) < len(captions):
            notes.append(f"{len(silent)} of {len(captions)} pictures have no caption, and are called by their file's "
                        f"name: {few(silent)}")  # fmt: skip
        if unused := [self._name(file) for file in beside.unused()]:
            notes.append(f"no picture has the name of these files, which are not used: {few(unused)}")
        if guessed:
            notes.append(not_in_utf8(guessed))
        return _Read(examples, notes)

    def _caption_of_name(self, file: Path, guessed: list[str]) -> str:
        return caption_of_name(decoded(os.fsencode(file.stem), f"the name {self._name(file)}", guessed))

    def _name(self, file: Path) -> str:
        return shown(file.relative_to(self.path))


@dataclass(frozen=True)
class _Read:
    """What a folder gives, and what people should know about it."""

    examples: Sequence[Example]
    notes: Sequence[str]


class _Beside:
    """Files of captions, `fox.txt` or `fox.png.txt`, by the pictures that they lie beside."""

    def __init__(self, found: Contents) -> None:
        pictures = [*found.pictures, *found.left_out]
        stems = {stem for picture in pictures for stem in _stems(picture)}
        self.texts: dict[Path, list[Path]] = defaultdict(list)
        self.alike: dict[str, list[Path]] = defaultdict(list)
        for text in (file for file in found.others if file.suffix.lower() in BESIDE):
            stem = text.with_suffix("")
            self.texts[stem].append(text)
            if stem not in stems:
                self.alike[folded(str(stem))].append(text)
        self.taken: set[Path] = set()

    def captions(self, picture: Path, guessed: list[str]) -> tuple[str, ...] | None:
        """None where there is none. A file whose name differs in case is a picture's where it is no other's."""
        texts = [text for stem in _stems(picture) for text in self.texts.get(stem, ())]
        if not texts:
            alike = [text for stem in _stems(picture) for text in self.alike.get(folded(str(stem)), ())]
            texts = alike if len(alike) == 1 else []
            self.taken.update(texts)
        lines = [line for text in texts for line in caption_lines(read_text(text, guessed))]
        return (tuple(lines) or ("",)) if texts else None

    def unused(self) -> list[Path]:
        return [text for alike in self.alike.values() for text in alike if text not in self.taken]


def _stems(picture: Path) -> tuple[Path, Path]:
    return picture.with_suffix(""), picture


def caption_lines(text: str) -> list[str]:
    return [line.strip() for line in lines_of(text) if line.strip()]


def caption_of_name(stem: str) -> str:
    """What a file's name says: "red_fox-02" is a red fox."""
    words = re.sub(r"[_\-.]+", " ", stem)
    return re.sub(r"(?:\s+|(?<=[a-z]))\(?\d+\)?$", "", words).strip()


def not_in_utf8(names: Sequence[str]) -> str:
    return f"not in UTF-8, and read as {FALLBACK} (Windows): {few(names)}; save them as UTF-8 if captions look wrong"
