"""Reading a picture from a file that may be anything."""

from __future__ import annotations

import warnings
from pathlib import Path

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower than PIL's
            with Image.open(path) as image:
                _check_size(path, image)
                return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise InvalidRequest(f"{path} is too large; at most {MAX_PIXELS // 10**6} million pixels are read") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"{path} is not a picture in a format that can be read (PNG, JPEG, WebP, …)") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{path} cannot be read as a picture: {error}") from error


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InvalidRequest(
            f"{path} has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are read"
        )
