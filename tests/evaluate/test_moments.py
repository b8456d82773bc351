"""The Fréchet distance against closed forms and torchmetrics; moments that may be gathered in any pieces and order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from fewstep.errors import InvalidRequest
from fewstep.evaluate.moments import Moments, frechet_distance


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(mean: Tensor, covariance: Tensor, count: int = 1000) -> Moments:
    return Moments(count, mean, covariance * (count - 1))


def test_gaussians_with_diagonal_covariances() -> None:
    """|m - n|^2 + sum (a - b)^2 for deviations a and b along the same axes, in whatever basis."""
    mean, deviations, others = randn(6), randn(6, seed=1).abs(), randn(6, seed=2).abs()
    basis = torch.linalg.qr(randn(6, 6, seed=3)).Q
    a = gaussian(torch.zeros(6).double(), basis @ torch.diag(deviations**2) @ basis.T)
    b = gaussian(mean, basis @ torch.diag(others**2) @ basis.T)
    exact = float(mean.square().sum() + (deviations - others).square().sum())
    assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(exact, rel=1e-10)


def test_scaled_covariances() -> None:
    """C and c^2 C are (1 - c)^2 tr C apart."""
    root = randn(5, 5)
    c = root @ root.T
    zero = torch.zeros(5).double()
    assert frechet_distance(gaussian(zero, c), gaussian(zero, 9 * c)) == pytest.approx(4 * float(c.trace()), rel=1e-9)


def test_as_torchmetrics_has_it() -> None:
    """Over pixels as features, which torchmetrics then knows nothing about but the formula."""

    class Pixels(nn.Module):
        num_features = 12

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).double()

    generator = torch.Generator().manual_seed(0)
    real, generated = (torch.randint(low, 256, (n, 3, 2, 2), generator=generator) for n, low in ((60, 0), (45, 90)))
    theirs = FrechetInceptionDistance(feature=Pixels())
    theirs.update(real.to(torch.uint8), real=True)
    theirs.update(generated.to(torch.uint8), real=False)
    ours = frechet_distance(Moments.of(real.flatten(1)), Moments.of(generated.flatten(1)))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_pictures_than_features() -> None:
    moments = Moments.of(randn(5, 20))
    assert frechet_distance(moments, moments) == pytest.approx(0.0, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 59), max_size=5, unique=True), order=st.randoms(use_true_random=False))
def test_gathered_in_any_pieces_and_any_order(cuts: list[int], order: object) -> None:
    x = randn(60, 7) * 3 + 100
    pieces = list(torch.tensor_split(x, sorted(cuts)))
    order.shuffle(pieces)  # type: ignore[attr-defined]
    first, *rest = (Moments.of(piece) for piece in pieces)
    total = sum(rest, first)
    whole = Moments.of(x)
    assert total.count == whole.count
    torch.testing.assert_close(total.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(total.scatter, whole.scatter, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(whole.covariance, x.T.cov(), rtol=1e-10, atol=1e-12)


def test_weights_are_repetitions() -> None:
    x, times = randn(6, 3), torch.tensor([2, 0, 1, 3, 1, 1])
    weighed, repeated = Moments.of(x, times.double()), Moments.of(x.repeat_interleave(times, dim=0))
    torch.testing.assert_close(weighed.mean, repeated.mean)
    torch.testing.assert_close(weighed.covariance, repeated.covariance)


def test_one_picture_is_refused_in_words() -> None:
    with pytest.raises(InvalidRequest, match="one picture has no covariance"):
        frechet_distance(Moments.of(randn(1, 4)), Moments.of(randn(9, 4)))
