"""Pictures to bytes and bytes to pictures, for strangers: fast, bounded, off the event loop."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, get_args

import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fewstep.errors import InvalidRequest
from fewstep.imaging.inscription import written_with
from fewstep.imaging.masks import mask_of
from fewstep.imaging.reading import decode_image
from fewstep.server.job import Pixels

Format = Literal["jpeg", "webp", "png"]
FORMATS: tuple[str, ...] = get_args(Format)
MEDIA_TYPES = {name: f"image/{name}" for name in FORMATS}
MAX_PIXELS = 16_000_000  # of a picture from the network: 4000 x 4000
READ = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow knows many more, some of them programs
QUALITY = 90


@dataclass(frozen=True)
class Coding:
    """How a picture travels: `quality` 1 .. 100 for jpeg and webp; png is lossless."""

    format: Format = "jpeg"
    quality: int = QUALITY

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InvalidRequest(f"unknown picture format {self.format!r}; choose one of {', '.join(FORMATS)}")
        if not 1 <= self.quality <= 100:
            raise InvalidRequest(f"the quality is {self.quality}; it must be from 1 to 100")


def encode(pixels: Pixels, coding: Coding, chunks: dict[str, str] | None = None) -> bytes:
    """(H, W, 3) to a file's bytes.

    `chunks` say how the picture was made: text chunks in a PNG, EXIF in the other formats.
    """
    if coding.format == "jpeg" and not chunks:
        return bytes(simplejpeg.encode_jpeg(pixels, coding.quality, "RGB", "444", fastdct=False))
    file, image = io.BytesIO(), Image.fromarray(pixels)
    if coding.format == "png":
        info = PngInfo()
        for name, text in (chunks or {}).items():
            info.add_itxt(name, text)
        image.save(file, "PNG", pnginfo=info, compress_level=3)
    else:
        written = written_with(chunks or {}, coding.format.upper())
        image.save(file, coding.format, quality=coding.quality, method=2, subsampling=0, **written)
    return file.getvalue()


def decode(data: bytes, what: str = "the picture") -> Image.Image:
    """Bytes from the network to a picture, upright; raises `InvalidRequest` before anything large is allocated."""
    return decode_image(io.BytesIO(data), what, max_pixels=MAX_PIXELS, formats=READ)


def decode_mask(data: bytes, what: str = "the mask") -> Image.Image:
    """The same for a mask (`imaging.masks.mask_of`): opaque or white is inpainted."""
    return mask_of(decode(data, what))
