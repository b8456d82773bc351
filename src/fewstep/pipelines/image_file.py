"""Reading a picture from a file that may be anything."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from fewstep.errors import InvalidRequest

MAX_PIXELS = 50_000_000


def as_image(image: Image.Image | str | Path) -> Image.Image:
    """A picture, or the one at a path; raises `InvalidRequest`."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if not isinstance(image, Image.Image):
        raise InvalidRequest(f"a picture must be a PIL image or a path, not {type(image).__name__}")
    return image


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
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower than PIL's
            with Image.open(source, formats=formats) as image:
                _check_size(what, image, max_pixels)
                return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise InvalidRequest(f"{what} is too large; at most {max_pixels // 10**6} million pixels are read") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"{what} is not a picture in a format that can be read (PNG, JPEG, WebP, …)") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{what} cannot be read as a picture: {error}") from error


def _check_size(what: str, image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise InvalidRequest(
            f"{what} has {image.width} x {image.height} pixels; at most {max_pixels // 10**6} million are read"
        )
