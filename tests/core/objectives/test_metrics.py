"""The metrics, in numbers."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.core.objectives.metrics import METRICS, cauchy, huber, l2, pseudo_huber


def test_metrics_in_numbers() -> None:
    """d = (3, 4): ||d|| = 5, mean d^2 = 12.5, mean |d| = 3.5."""
    zero, d = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    for prediction, target in ((d, zero), (zero, d)):
        assert float(l2(prediction, target)) == 12.5
        assert float(huber(prediction, target)) == pytest.approx(3.5 - 1e-3, abs=1e-6)
        assert float(huber(prediction, target, c=4.0)) == pytest.approx((5 + 32**0.5) / 2 - 4)
        assert float(pseudo_huber(prediction, target, c=12.0)) == pytest.approx(1.0)
        assert float(pseudo_huber(prediction, target)) == pytest.approx(5 - 0.00054 * 2**0.5, abs=1e-6)
        assert float(cauchy(prediction, target, c=5.0)) == pytest.approx(math.log(1.5))
    assert all(float(metric(d, d)) == 0.0 for metric in METRICS.values())


def test_pseudo_hubers_c_grows_with_the_sample() -> None:
    """0.069 for latents of 4 x 64 x 64: within c the metric is ||d||^2 / 2 c."""
    small = torch.full((1, 4, 64, 64), 1e-6)
    norm = 1e-6 * 16384**0.5
    assert float(pseudo_huber(small.double(), torch.zeros(1).double())) == pytest.approx(
        norm**2 / (2 * 0.06912), rel=1e-3
    )
