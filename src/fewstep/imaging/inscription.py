"""What a picture's file says about how it was made: text chunks of a PNG, EXIF of JPEG and WebP, a GIF's comment."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

from fewstep.errors import FewstepWarning

if TYPE_CHECKING:
    from PIL.Image import Exif, Image
    from PIL.PngImagePlugin import PngInfo

RECORD = "fewstep"  # the JSON record
PARAMETERS = "parameters"  # the same for people and other programs, in the style of AUTOMATIC1111's web UI
_EXIF, _USER_COMMENT, _MAKER_NOTE = 0x8769, 0x9286, 0x927C
_UNICODE, _OURS = b"UNICODE\0", b"fewstep\0"  # what the two begin with
_MOST_IN_A_JPEG = 65_000  # bytes of EXIF: one marker holds no more


class Inscription(TypedDict, total=False):
    """What Pillow's `save` takes of it, by the file's format."""

    pnginfo: PngInfo
    comment: bytes
    exif: Exif


def written_with(chunks: Mapping[str, str], form: str) -> Inscription:
    """What Pillow's `save` takes to write `chunks` (`RECORD`, `PARAMETERS`) into a file of this format.

    form  "PNG", "JPEG", "WEBP" or "GIF"; a GIF holds the record alone

    Warns where they are longer than a JPEG can hold.
    """
    if form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for name, text in chunks.items():
            info.add_text(name, text)
        return {"pnginfo": info}
    if form == "GIF":
        return {"comment": chunks[RECORD].encode()} if RECORD in chunks else {}
    exif = _as_exif(chunks)
    if form == "JPEG" and len(exif.tobytes()) > _MOST_IN_A_JPEG:
        warnings.warn(
            "the picture's parameters are longer than a JPEG can hold and were left out; PNG and WebP have room",
            FewstepWarning,
            stacklevel=3,
        )
        return {}
    return {"exif": exif}


def inscribed(image: Image) -> dict[str, str]:
    """The chunks that the file of an opened picture carries; empty where it says nothing that can be read."""
    said = {name: text for name in (RECORD, PARAMETERS) if isinstance(text := image.info.get(name), str)}
    with suppress(Exception):  # a camera's broken EXIF is no reason to refuse its picture
        said |= _from_exif(image.getexif())
    comment = image.info.get("comment")
    if image.format == "GIF" and isinstance(comment, bytes) and comment.startswith(b"{"):
        said[RECORD] = comment.decode(errors="replace")
    return said


def _as_exif(chunks: Mapping[str, str]) -> Exif:
    from PIL.Image import Exif

    exif = Exif()
    if PARAMETERS in chunks:
        exif.get_ifd(_EXIF)[_USER_COMMENT] = _UNICODE + chunks[PARAMETERS].encode("utf-16-be")
    if RECORD in chunks:
        exif.get_ifd(_EXIF)[_MAKER_NOTE] = _OURS + chunks[RECORD].encode()
    return exif


def _from_exif(exif: Exif) -> dict[str, str]:
    values = exif.get_ifd(_EXIF)
    said = {}
    comment, note = values.get(_USER_COMMENT), values.get(_MAKER_NOTE)
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        said[PARAMETERS] = comment.removeprefix(_UNICODE).decode("utf-16-be", errors="replace")
    if isinstance(note, bytes) and note.startswith(_OURS):
        said[RECORD] = note.removeprefix(_OURS).decode(errors="replace")
    return said
