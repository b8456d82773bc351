"""Aspect buckets have the area that was asked for, and a picture goes where it loses least."""

from __future__ import annotations

import pytest

from fewstep.data.aspects import WIDEST, bucket_sizes, nearest_size


@pytest.mark.parametrize(("side", "unit"), [(128, 32), (512, 64), (768, 64), (1024, 32), (1024, 64)])
def test_buckets_are_about_as_large_as_the_square(side: int, unit: int) -> None:
    sizes = bucket_sizes((side, side), unit)
    assert (side, side) in sizes
    assert {(width, height) for height, width in sizes} == set(sizes)
    for height, width in sizes:
        assert height % unit == width % unit == 0
        assert max(height / width, width / height) <= WIDEST
        assert 0.7 <= height * width / side**2 <= 1
    assert 3 <= len(sizes) <= 16


def test_stable_diffusion_s_own() -> None:
    assert bucket_sizes((512, 512), 64) == [
        (320, 640), (384, 640), (448, 576), (512, 512), (576, 448), (640, 320), (640, 384)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "expected"),
    [((600, 600), (512, 512)), ((1920, 1080), (384, 640)), ((1080, 1920), (640, 384)), ((3000, 500), (320, 640))],
)
def test_a_picture_goes_where_it_is_cropped_least(image: tuple[int, int], expected: tuple[int, int]) -> None:
    assert nearest_size(image, bucket_sizes((512, 512), 64)) == expected
