"""Variety within a prompt, of sets with a known answer."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.evaluate.metrics.base import mean_pairwise_distance
from fewstep.evaluate.metrics.variety import vendi_score


def test_vendi_score_of_known_sets() -> None:
    assert float(vendi_score(torch.ones(6, 3))) == pytest.approx(1.0)
    assert float(vendi_score(torch.eye(6))) == pytest.approx(6.0)
    twins = torch.eye(3).repeat_interleave(2, dim=0)
    sets = torch.stack([twins, torch.eye(6)[:, :3] + torch.eye(6)[:, 3:]])
    assert vendi_score(sets).tolist() == pytest.approx([3.0, 3.0])
    # one third and two thirds: exp of the entropy of that
    uneven = torch.eye(2)[[0, 1, 1]]
    assert float(vendi_score(uneven)) == pytest.approx(math.exp(math.log(3) - 2 / 3 * math.log(2)))


def test_mean_pairwise_distance() -> None:
    assert float(mean_pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))) == pytest.approx(5.0)
    assert float(mean_pairwise_distance(torch.tensor([[0.0], [1.0], [3.0]]))) == pytest.approx(2.0)
