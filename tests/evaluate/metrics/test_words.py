"""Pictures and their prompts, at known angles."""

from __future__ import annotations

import pytest
import torch

from fewstep.evaluate.metrics.words import cosine_score, retrieved


def test_cosine_score_of_known_angles() -> None:
    words = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    pictures = torch.tensor([[2.0, 0.0], [1.0, 3**0.5], [-1.0, 0.0]])
    assert cosine_score(pictures, words).tolist() == pytest.approx([100.0, 50.0, 0.0])


def test_retrieval_counts_ties_as_lost() -> None:
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    pictures = torch.tensor([[0.9, 0.1], [0.2, 5.0], [1.0, 0.9]])
    assert retrieved(pictures, words, torch.tensor([0, 1, 1])).tolist() == [0.0, 1.0, 0.0]
