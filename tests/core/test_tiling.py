"""Windows over a large sample: exact where they must be, and without a seam where they differ."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.schedules import DiscreteSchedule
from fewstep.core.tiling import OVERLAP, Tiled, windows

sides = st.integers(1, 40)


def whole(cond: Any, rows: slice, columns: slice) -> Any:
    return cond


@given(sample=st.tuples(sides, sides), size=st.tuples(sides, sides))
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_sample_with_enough_overlap(sample: tuple[int, int], size: tuple[int, int]) -> None:
    covered = torch.zeros(sample)
    places = list(windows(sample, size))
    for rows, columns in places:
        assert covered[rows, columns].shape == (min(sample[0], size[0]), min(sample[1], size[1]))
        covered[rows, columns] += 1
    assert covered.min() >= 1
    tops = sorted({rows.start for rows, _ in places})
    if size[0] >= 4:
        assert all(b - a <= size[0] * (1 - OVERLAP) + 1 for a, b in pairwise(tops))
    assert len(tops) == 1 or len(tops) <= -(-(sample[0] - size[0]) // max(1, int(size[0] * (1 - OVERLAP)))) + 1


def test_one_window_is_the_plain_answer_to_the_bit() -> None:
    x = torch.randn(2, 4, 8, 6)
    plain = lambda x_t, t, cond, w=None: torch.sin(x_t) * cond + x_t.mean(dim=(2, 3), keepdim=True)  # noqa: E731
    for size in ((8, 6), (9, 6), (20, 20)):
        assert torch.equal(Tiled(plain, size, whole)(x, 10, 3.0), plain(x, 10, 3.0))


@given(height=st.integers(5, 33), width=st.integers(5, 33))
@settings(max_examples=40, deadline=None)
def test_a_denoiser_that_looks_no_further_than_a_pixel_does_not_notice(height: int, width: int) -> None:
    """The closed form of Gaussian data acts place by place, so windows must change nothing, at any size."""
    x = torch.randn(1, 2, height, width, dtype=torch.float64)
    place_by_place = lambda x_t, t, cond, w=None: 0.3 + 0.25 * (x_t - 0.3)  # noqa: E731
    tiled = Tiled(place_by_place, (8, 8), whole)(x, 10, None)
    torch.testing.assert_close(tiled, place_by_place(x, 10, None), atol=1e-12, rtol=0)


def test_windows_of_other_opinions_are_blended_without_an_edge() -> None:
    """Each window paints a shade of its own: hard edges would jump by whole shades; blended, a fraction of one."""
    shades = iter([0.0, 1.0, 0.0, 1.0])

    def shade(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        return torch.full_like(x_t, next(shades))

    blended = Tiled(shade, (64, 64), whole)(torch.zeros(1, 1, 64, 160), 10, None)[0, 0]
    assert blended.diff(dim=1).abs().max() < 0.1
    assert blended.min() == 0.0
    assert blended.max() > 0.9


def test_the_conditioning_is_cut_like_the_sample() -> None:
    """A denoiser that copies its conditioning gives the whole of it back, whatever the windows."""
    picture = torch.rand(1, 3, 20, 28)
    copy = lambda x_t, t, cond, w=None: cond.expand_as(x_t)  # noqa: E731
    crop = lambda cond, rows, columns: cond[..., rows, columns]  # noqa: E731
    torch.testing.assert_close(Tiled(copy, (8, 12), crop)(torch.zeros_like(picture), 1, picture), picture)


def test_a_tiled_sampler_ends_on_the_data() -> None:
    """Consistency sampling through windows, with the exact f of data that is one picture: that picture."""
    picture = torch.randn(1, 1, 24, 24)
    f = Tiled(
        lambda x_t, t, cond, w=None: cond.expand_as(x_t), (8, 8), lambda cond, rows, columns: cond[..., rows, columns]
    )
    schedule = DiscreteSchedule.from_betas("scaled_linear", 0.00085, 0.012, 1000)
    *_, last = sample_consistency(
        f, schedule, torch.randn(2, 1, 24, 24), [999, 499], picture, noise=lambda _: torch.randn(2, 1, 24, 24)
    )
    torch.testing.assert_close(last.x_t, picture.expand(2, -1, -1, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_precision_stays(dtype: torch.dtype) -> None:
    x = torch.randn(1, 1, 12, 12).to(dtype)
    assert Tiled(lambda x_t, t, cond, w=None: x_t, (8, 8), whole)(x, 1, None).dtype is dtype
