"""Masks as people have them: whatever they are stored as, they mean what they show."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import masks
from fewstep.errors import InvalidRequest
from fewstep.imaging.masks import check_mask, mask_of, mask_of_transparency
from fewstep.imaging.pixels import mask_weights
from fewstep.imaging.reading import read_image

HALF = masks.left_half(16)


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode == "L" and np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("way", masks.opaque_or_white(16))
def test_opaque_or_white_is_painted_anew(way: str) -> None:
    picture = Image.open(io.BytesIO(masks.opaque_or_white(16)[way]))
    mask = mask_of(picture)
    assert same(mask, HALF)
    assert same(mask_of(mask), HALF)  # what is a mask already stays as it is
    weights = mask_weights(picture, 8, 8)
    assert weights[..., :4].min() == 1.0
    assert weights[..., 4:].max() == 0.0


@pytest.mark.parametrize("way", masks.transparent(16))
def test_by_the_other_contract_the_transparent_part_is(way: str) -> None:
    assert same(mask_of_transparency(Image.open(io.BytesIO(masks.transparent(16)[way]))), HALF)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (np.int32, (0, 1)),
        (np.int32, (0, 255)),
        (np.int32, (0, 65535)),
        (np.float32, (0, 1)),
        (np.float32, (0, 255)),
        (np.float32, (0, 65535)),
    ],
)
def test_greys_without_a_stated_white_are_taken_by_their_lightest(kind: type, values: tuple[int, int]) -> None:
    array = np.where(np.asarray(HALF) > 0, values[1], values[0]).astype(kind)
    assert same(mask_of(Image.fromarray(array)), HALF)


@pytest.mark.parametrize(("ending", "mode"), [(".tif", "CMYK"), (".tif", "I;16B"), (".tif", "LA"), (".bmp", "1")])
def test_masks_in_other_files(tmp_path: Path, ending: str, mode: str) -> None:
    match mode:
        case "LA":
            picture = Image.new("LA", HALF.size)
            picture.putalpha(HALF)
        case "I;16B":
            picture = Image.frombytes("I;16B", HALF.size, (np.asarray(HALF).astype(">u2") * 257).tobytes())
        case _:
            picture = HALF.convert("RGB").convert(mode)
    picture.save(tmp_path / f"mask{ending}")
    assert same(mask_of(read_image(tmp_path / f"mask{ending}")), HALF)


def test_a_soft_mask_stays_soft() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)
    shapes = {
        "16 bits": Image.fromarray(ramp.astype(np.uint16) * 257),
        "float": Image.fromarray(ramp.astype(np.float32) / 255),
        "alpha": Image.fromarray(np.dstack([ramp * 0, ramp])),
    }
    for mask in shapes.values():
        assert np.array_equal(np.asarray(mask_of(mask)), ramp)


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        (Image.new("L", (8, 8), 0), "black all over, so"),
        (Image.new("L", (8, 8), 1), r"black all over \(its lightest place is 1 of 255\)"),
        (Image.new("RGBA", (8, 8), (255, 255, 255, 0)), "black all over.*leave it opaque"),
        (Image.new("I;16", (8, 8), 255), "black all over"),
    ],
)
def test_a_mask_that_paints_nothing_is_refused(mask: Image.Image, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        check_mask(mask_of(mask))


@pytest.mark.parametrize("values", [np.float32([[-1, 1]]), np.float32([[0, np.nan]]), np.int32([[0, 70000]])])
def test_greys_without_any_scale_are_refused(values: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="they must be from 0 to 1, 255 or 65535: scale them first"):
        mask_of(Image.fromarray(values))


def test_a_mask_without_a_transparent_part_is_refused_where_that_says_all() -> None:
    with pytest.raises(InvalidRequest, match="no transparent part"):
        mask_of_transparency(HALF)
