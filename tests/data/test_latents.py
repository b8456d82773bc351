"""The cache returns what was put in, and refuses what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewstep.data.latents import LatentCache


def cache() -> LatentCache:
    captions = torch.tensor([[1, 2], [3, 4], [5, 6]])
    return LatentCache(torch.randn(3, 4, 2, 2), torch.randn(7, 5, 8).half(), captions)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    before = cache()
    before.save(tmp_path / "deep" / "latents.safetensors")
    after = LatentCache.load(tmp_path / "deep" / "latents.safetensors")
    assert torch.equal(before.latents, after.latents)
    assert torch.equal(before.states, after.states)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["latents.safetensors"]


def test_captions_belong_to_their_pictures_and_some_are_empty() -> None:
    rows = torch.tensor([0, 1, 2] * 2000)
    drawn = cache().draw_captions(rows, torch.Generator().manual_seed(0), empty=0.1)
    empty = drawn == 0
    assert 0.08 < float(empty.float().mean()) < 0.12
    assert bool(((drawn + 1) // 2 == rows + 1)[~empty].all())
    assert set(drawn.tolist()) == set(range(7))


@pytest.mark.parametrize("broken", ["captions", "states"])
def test_parts_that_do_not_fit_are_refused(broken: str) -> None:
    whole = cache()
    states = whole.states[:5] if broken == "states" else whole.states
    captions = whole.captions[:2] if broken == "captions" else whole.captions
    with pytest.raises(ValueError, match="caption"):
        LatentCache(whole.latents, states, captions)
