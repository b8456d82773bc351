"""Reading a picture from a file that may be anything."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from fewstep.errors import InvalidRequest
from fewstep.imaging.inscription import inscribed

MAX_PIXELS = 50_000_000
ANIMATED = "animated"  # the entry of a picture's `info` where its file has more than the one frame that was read

_ORIENTATION = 0x0112  # in EXIF: how the camera was held
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# what Pillow's decoders raise at bytes that they did not expect
_DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


def as_image(image: Image.Image | str | Path) -> Image.Image:
    """A picture, or the one at a path, upright; raises `InvalidRequest`."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if not isinstance(image, Image.Image):
        raise InvalidRequest(f"a picture must be a PIL image or a path, not {type(image).__name__}")
    return _upright(image)


def read_image(path: str | Path) -> Image.Image:
    """Open and decode a picture, upright; raises `InvalidRequest` for what cannot or should not be read."""
    path = Path(path)
    if not path.is_file():
        raise InvalidRequest(f"there is no picture at {path}")
    return decode_image(path, str(path))


def decode_image(
    source: Path | BinaryIO, what: str, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """As `read_image`, from a path or an open file that the messages call `what`; `formats` None allows all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubts about what a file says of itself; our limit is lower than PIL's
            with Image.open(source, formats=formats) as image:
                _check_size(what, image, max_pixels)
                moves = getattr(image, "is_animated", False) and image.format != "MPO"  # a photo and its thumbnails
                upright = _upright(image)
                upright.info |= {ANIMATED: True} if moves else {}
                upright.info.update(inscribed(image))
                return upright
    except Image.DecompressionBombError as error:
        raise InvalidRequest(f"{what} is too large; at most {max_pixels // 10**6} million pixels are read") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"{what} is not a picture in a format that can be read (PNG, JPEG, WebP, …)") from error
    except _DAMAGED as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{what} cannot be read as a picture: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its camera was held, with nothing left in it that would turn it again.

    Pillow's own way also writes the EXIF anew, which fails for a good photo with a damaged fact in it.
    """
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 0))
    except _DAMAGED:
        turn = None
    if turn is None:
        return image.copy()
    upright = image.transpose(turn)
    for entry in ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"):
        upright.info.pop(entry, None)
    return upright


def _check_size(what: str, image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise InvalidRequest(
            f"{what} has {image.width} x {image.height} pixels; at most {max_pixels // 10**6} million are read"
        )
