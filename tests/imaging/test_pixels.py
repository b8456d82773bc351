"""Pictures to pixels and back, and files that may be anything."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

import masks
from fewstep.errors import InvalidRequest
from fewstep.imaging.contact_sheet import GAP, contact_sheet
from fewstep.imaging.pixels import to_images, to_pixels
from fewstep.imaging.reading import ANIMATED, as_image, decode_image, read_image


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "LAB"])
def test_a_picture_looks_the_same_in_every_mode(mode: str) -> None:
    black_and_white = Image.new("RGB", (16, 16), "black")
    black_and_white.paste("white", (0, 0, 8, 16))
    match mode:
        case "La" | "RGBa":
            picture = black_and_white.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
        case "PA":
            picture = black_and_white.convert("P").convert("PA")
        case "LAB":
            white = np.asarray(black_and_white)[..., 0]
            picture = Image.fromarray(np.dstack([white, white * 0, white * 0]), "LAB")
        case _:
            picture = black_and_white.convert("L").convert(mode) if mode == "LA" else black_and_white.convert(mode)
    assert picture.mode == mode
    assert (to_pixels(picture, 16, 16) - to_pixels(black_and_white, 16, 16)).abs().max() < 0.02


def test_a_cmyk_photo_looks_as_it_should(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = to_pixels(read_image(tmp_path / "red.jpg"), 8, 8)[0, :, 4, 4]
    assert red[0] > 0.9
    assert red[1:].max() < -0.9


@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm"])
def test_sixteen_bits_of_grey_are_scaled_and_not_cut(tmp_path: Path, ending: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / f"ramp{ending}")
    pixels = to_pixels(read_image(tmp_path / f"ramp{ending}"), 16, 16)
    assert np.array_equal(((pixels[0, 0] + 1) * 127.5).round().numpy(), ramp >> 8)


def test_sixteen_bits_of_colour_are_scaled(tmp_path: Path) -> None:
    colours = np.full((8, 8, 4), (65535, 257 * 100, 0, 65535), np.uint16)
    for channels in (3, 4):
        (tmp_path / "deep.png").write_bytes(masks.png_of_16_bits(colours[..., :channels]))
        pixels = to_pixels(read_image(tmp_path / "deep.png"), 8, 8)
        assert ((pixels[0, :, 0, 0] + 1) * 127.5).round().tolist() == [255, 100, 0]


def test_a_colour_that_stands_for_nothing_is_white(tmp_path: Path) -> None:
    keyed = Image.new("RGB", (8, 8), "lime")
    keyed.paste("red", (0, 0, 4, 8))
    keyed.save(tmp_path / "keyed.png", transparency=(0, 255, 0))
    pixels = to_pixels(read_image(tmp_path / "keyed.png"), 8, 8)
    assert (pixels[0, :, 0, 0].tolist(), pixels[0, :, 0, 7].tolist()) == ([1, -1, -1], [1, 1, 1])


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


def test_a_photo_is_turned_upright_from_its_path_and_as_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    half = Image.new("RGB", (32, 16), "black")
    half.paste("white", (0, 0, 16, 16))
    half.save(tmp_path / "photo.jpg", exif=exif)
    for photo in (tmp_path / "photo.jpg", Image.open(tmp_path / "photo.jpg")):
        upright = as_image(photo)
        assert upright.size == (16, 32)
        assert np.asarray(upright)[:14].min() > 240  # what was on the left is above
        assert np.asarray(upright)[18:].max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_to_hold_a_camera_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(24, 16).save(tmp_path / "photo.png", exif=exif)
    upright = read_image(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(upright), np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "photo.png"))))
    assert np.array_equal(np.asarray(as_image(upright)), np.asarray(upright))


def test_a_photo_with_damaged_facts_about_it_is_read_or_refused_in_a_line(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    noise(24, 24).save(tmp_path / "photo.jpg", exif=exif)
    content = bytearray((tmp_path / "photo.jpg").read_bytes())
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = content.copy()
        for place in random.integers(20, 90, 3):  # where the EXIF lies
            damaged[place] = random.integers(256)
        try:
            decode_image(io.BytesIO(damaged), "the picture")
        except InvalidRequest as error:
            assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_what_is_animated_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(file := io.BytesIO(), kind, save_all=True, append_images=frames[1:])
    picture = decode_image(file, "the picture")
    assert picture.info[ANIMATED]
    assert np.abs(np.asarray(picture.convert("RGB"), dtype=int) - (255, 0, 0)).max() <= 3
    frames[0].save(file := io.BytesIO(), kind)
    assert ANIMATED not in decode_image(file, "the picture").info


@pytest.mark.parametrize(("count", "columns", "size"), [(1, None, (1, 1)), (5, None, (3, 2)), (4, 1, (1, 4))])
def test_a_contact_sheet_shows_every_picture_in_order(count: int, columns: int | None, size: tuple[int, int]) -> None:
    shades = [Image.new("RGB", (10, 20), (shade, 0, 0)) for shade in range(count)]
    sheet = contact_sheet(shades, columns)
    assert sheet.size == (size[0] * (10 + GAP) - GAP, size[1] * (20 + GAP) - GAP)
    corners = [sheet.getpixel((i % size[0] * (10 + GAP), i // size[0] * (20 + GAP))) for i in range(count)]
    assert corners == [(shade, 0, 0) for shade in range(count)]
