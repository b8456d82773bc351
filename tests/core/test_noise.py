"""Noise per picture."""

from __future__ import annotations

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given
from hypothesis import strategies as st

from fewstep.core.noise import PictureNoise

SHAPE = (4, 8, 8)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
def test_a_seed_gives_the_same_noise_alone_and_in_a_batch(seeds: list[int]) -> None:
    together, alone = PictureNoise(seeds), [PictureNoise([seed]) for seed in seeds]
    for _ in range(3):
        assert torch.equal(together.draw(SHAPE), torch.cat([noise.draw(SHAPE) for noise in alone]))


@pytest.mark.parametrize("seeds", [[7], [7, 8, 7, 2**63]])
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 3)])
def test_noise_is_that_of_diffusers(seeds: list[int], shape: tuple[int, ...]) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = PictureNoise(seeds)
    for _ in range(2):
        assert torch.equal(noise.draw(shape), randn_tensor((len(seeds), *shape), generator=generators))


def test_streams_move_on_and_leave_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    noise = PictureNoise([1, 1])
    first, second = noise.draw(SHAPE), noise.draw(SHAPE)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert (first.dtype, first.device.type) == (torch.float32, "cpu")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("seeds", "words"), [([], "no seeds"), ([1, -1], "got -1"), ([2**64], "0 .. 2\\^64 - 1")])
def test_errors_in_words(seeds: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PictureNoise(seeds)
