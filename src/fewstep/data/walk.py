"""What lies in a folder of pictures, at any depth and through links, and what of it is left out, and why."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewstep.errors import InvalidData

PICTURES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".jp2", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".avif", ".tga",
)  # fmt: skip
UNREAD = (".heic", ".heif", ".jxl", ".psd", ".xcf", ".kra", ".clip", ".cr2", ".nef", ".arw", ".dng")
HIDDEN = "hidden, for its name or its folder's begins with a dot"
NOTHING = "a link to nothing"
LOOP = "a link to a folder that it lies in"
FORMAT = "a format that is not read"


@dataclass(frozen=True)
class Contents:
    """pictures  in order
    others    files of other kinds that are not hidden: captions, listings, anything
    left_out  pictures, and links, that are not used: why
    """

    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What is left out, a line for each reason."""
        reasons: dict[str, list[str]] = {}
        for file, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(shown(file))
        return [f"left out, {reason}: {few(names)}" for reason, names in reasons.items()]


def contents(folder: Path) -> Contents:
    """Look through `folder` and all folders in it, links too. Raises `InvalidData` for one that cannot be read."""
    found = Contents()
    for file, reason in sorted(_files(folder, (_identity(folder),))):
        is_picture = file.suffix.lower() in PICTURES
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if is_picture and hidden:
            reason = HIDDEN
        if reason is None and not hidden:
            if is_picture:
                found.pictures.append(file)
            elif _is_unread(file):
                reason = FORMAT
            else:
                found.others.append(file)
        if reason is not None and (not hidden or is_picture):
            found.left_out[file] = reason
    return found


def _files(folder: Path, around: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, str | None]]:
    """Every file, and what is wrong with it; `around` are the folders that this one lies in, and itself."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InvalidData(f"the folder {folder} cannot be read: {error.strerror or error}") from error
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            identity = _identity(path)
            if identity in around:
                yield path, LOOP
            else:
                yield from _files(path, (*around, identity))
        elif entry.is_file():
            yield path, None
        elif entry.is_symlink():
            yield path, NOTHING


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _is_unread(file: Path) -> bool:
    kind, _ = mimetypes.guess_type(file.name)
    return file.suffix.lower() in UNREAD or (kind or "").startswith("image/")


def shown(path: Path) -> str:
    """A path for people and for JSON: with "�" for what its file system holds that is not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def few(names: Sequence[str], most: int = 5) -> str:
    """Some of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
