"""One mask, the left half, in every way in which programs save such a thing; and PNG files of 16 bits a channel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def left_half(size: int) -> Image.Image:
    """The mask that all others mean: white on the left."""
    mask = Image.new("L", (size, size))
    mask.paste(255, (0, 0, size // 2, size))
    return mask


def opaque_or_white(size: int) -> dict[str, bytes]:
    """PNG files by name: the left half is opaque, or white where all is opaque."""
    white = left_half(size)
    on = np.asarray(white)
    keyed = Image.new("L", white.size, 9)
    keyed.paste(50, (0, 0, size // 2, size))
    return {
        "L": _png(white),
        "1": _png(white.convert("1")),
        "RGB": _png(white.convert("RGB")),
        "RGBA, all opaque": _png(white.convert("RGBA")),
        "P, all opaque": _png(white.convert("P")),
        "RGBA, white strokes": _png(_with_alpha(Image.new("RGB", white.size, "white"), white)),
        "RGBA, black strokes": _png(_with_alpha(Image.new("RGB", white.size, "black"), white)),
        "LA": _png(_with_alpha(Image.new("L", white.size, 0), white)),
        "P, a clear index": _png(_palette(white)),
        "L, a clear grey": _png(keyed, transparency=9),
        "I;16": _png(Image.fromarray(on.astype(np.uint16) * 257)),
        "I;16, faint": _png(Image.fromarray(np.where(on > 0, 65535, 255).astype(np.uint16))),
        "16 bits RGB": png_of_16_bits(np.repeat(on[..., None].astype(np.uint16) * 257, 3, axis=2)),
        "16 bits LA": png_of_16_bits(np.stack([on * np.uint16(0), on.astype(np.uint16) * 257], axis=2)),
        "16 bits RGBA": png_of_16_bits(
            np.concatenate([np.full((*on.shape, 3), 9, np.uint16), on[..., None].astype(np.uint16) * 257], axis=2)
        ),
    }


def transparent(size: int) -> dict[str, bytes]:
    """PNG files by name: the left half is transparent."""
    rest = Image.eval(left_half(size), lambda value: 255 - value)
    keyed = Image.new("L", rest.size, 9)
    keyed.paste(50, (0, 0, size // 2, size))
    return {
        "RGBA": _png(_with_alpha(Image.new("RGB", rest.size, "white"), rest)),
        "RGBA, black": _png(_with_alpha(Image.new("RGB", rest.size, "black"), rest)),
        "LA": _png(_with_alpha(Image.new("L", rest.size, 128), rest)),
        "P, a clear index": _png(_palette(rest)),
        "L, a clear grey": _png(keyed, transparency=50),
    }


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG from (H, W, channels) uint16: 2 channels are grey and alpha, 3 RGB, 4 RGBA. Pillow writes none of these."""
    height, width, channels = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    kind = {2: 4, 3: 2, 4: 6}[channels]
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0), b"IDAT": zlib.compress(lines)}
    chunks = [struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in parts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + b"\0\0\0\0IEND\xaeB`\x82"


def _png(image: Image.Image, **options: object) -> bytes:
    image.save(file := io.BytesIO(), "PNG", **options)
    return file.getvalue()


def _with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image.putalpha(alpha)
    return image


def _palette(where: Image.Image) -> Image.Image:
    """Greys in a palette; the index 0, where `where` is black, is clear."""
    palette = Image.new("P", where.size)
    palette.putpalette([200, 200, 200, 30, 30, 30])
    palette.paste(1, mask=where)
    palette.info["transparency"] = 0
    return palette
