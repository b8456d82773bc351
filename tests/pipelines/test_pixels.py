"""Pictures to pixels and back, and files that may be anything."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewstep.errors import InvalidRequest
from fewstep.pipelines.contact_sheet import GAP, contact_sheet
from fewstep.pipelines.image_file import read_image
from fewstep.pipelines.pixels import to_images, to_pixels


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def test_pixels_and_back_is_the_same_picture() -> None:
    picture = noise(32, 16)
    pixels = to_pixels(picture, 16, 32)
    assert pixels.shape == (1, 3, 16, 32)
    assert (pixels.min().item(), pixels.max().item()) == (-1.0, 1.0)
    assert np.array_equal(np.asarray(to_images(pixels)[0]), np.asarray(picture))


def test_pixels_beyond_the_range_are_cut() -> None:
    picture = to_images(torch.tensor([-3.0, 0.0, 3.0]).reshape(1, 3, 1, 1))[0]
    assert picture.getpixel((0, 0)) == (0, 128, 255)


def test_transparent_parts_become_white() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert to_pixels(picture, 8, 8).min() == 1.0


def test_a_picture_is_covered_and_cropped_around_its_middle() -> None:
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))
    assert to_pixels(wide, 50, 50).min() > 0.8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"])
def test_every_mode_of_a_picture_can_be_read(mode: str) -> None:
    picture = noise(16, 16).convert("L").convert(mode) if mode in ("I", "F", "LA", "P") else noise(16, 16, "RGB")
    pixels = to_pixels(picture if mode in ("I", "F", "LA", "P", "LAB") else picture.convert(mode), 16, 16)
    assert pixels.std() > 0.3


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    ramp = Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16))
    assert to_pixels(ramp, 16, 16).mean().abs() < 0.02


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    begun = struct.pack(">I", 100) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + begun


def whole_png(path: Path) -> bytes:
    noise(16, 16).save(path, format="PNG")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not a picture in a format"),
        (b"hello", "is not a picture in a format"),
        (png_claiming(8_000, 8_000), "has 8000 x 8000 pixels; at most 50 million"),
        (png_claiming(40_000, 40_000), "is too large; at most 50 million"),
        (png_claiming(16, 16), "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=complaint):
        read_image(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(InvalidRequest, match="there is no picture at"):
            read_image(path)


@given(cut=st.integers(0, 600), change=st.binary(max_size=8), at=st.integers(0, 600))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, change: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    content = bytearray(whole_png(path))
    content[at : at + len(change)] = change
    path.write_bytes(content[: len(content) - cut])
    try:
        assert read_image(path).size[0] > 0
    except InvalidRequest as error:
        assert len(str(error).splitlines()) == 1


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    noise(32, 16).save(tmp_path / "photo.jpg", exif=exif)
    assert read_image(tmp_path / "photo.jpg").size == (16, 32)


@pytest.mark.parametrize(("count", "columns", "size"), [(1, None, (1, 1)), (5, None, (3, 2)), (4, 1, (1, 4))])
def test_a_contact_sheet_shows_every_picture_in_order(count: int, columns: int | None, size: tuple[int, int]) -> None:
    shades = [Image.new("RGB", (10, 20), (shade, 0, 0)) for shade in range(count)]
    sheet = contact_sheet(shades, columns)
    assert sheet.size == (size[0] * (10 + GAP) - GAP, size[1] * (20 + GAP) - GAP)
    corners = [sheet.getpixel((i % size[0] * (10 + GAP), i // size[0] * (20 + GAP))) for i in range(count)]
    assert corners == [(shade, 0, 0) for shade in range(count)]
