"""Muon orthogonalises; the rest is Adam, checked against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewstep.train.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_singular_values_become_nearly_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    assert float((u.mT @ result @ v.mT).diagonal().min()) > 0.6
    assert float(torch.linalg.svdvals(result).max()) < 1.3
    assert float(s.max() / s.min()) > 1.5  # the input was not orthogonal already


def test_one_step_goes_down_the_gradient_by_the_promised_size() -> None:
    layer = nn.Conv2d(4, 8, 3, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    Muon(layer, lr=0.1).step()
    change = layer.weight.detach() - before
    assert float((change * layer.weight.grad).sum()) < 0
    assert float(change.square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.2)


def test_vectors_and_embeddings_are_left_to_adam() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_embedding = nn.Embedding(5, 4)
            self.linear = nn.Linear(4, 3)

    torch.manual_seed(0)
    ours, theirs = Net(), Net()
    theirs.load_state_dict(ours.state_dict())
    names = ("token_embedding.weight", "linear.bias")
    mine = Muon(ours, adam_lr=0.01)
    reference = torch.optim.Adam([theirs.get_parameter(name) for name in names], 0.01, betas=(0.9, 0.99))
    for seed in range(4):
        for net in (ours, theirs):
            for weight in net.parameters():
                weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        mine.step()
        reference.step()
    for name in names:
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(ours.linear.weight, theirs.linear.weight)
