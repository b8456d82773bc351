"""Little memory on a real device: the policies, and what happens when it is used up.

The allocator is capped at a size that was measured just before, so that every card behaves like a small one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch

import fewstep
from conftest import NEEDS_STARTER
from fewstep.errors import FewstepWarning
from fewstep.models.model import Model

pytestmark = [pytest.mark.gpu, NEEDS_STARTER]

PROMPT = "a cat face"
GREY_LEVELS = 2
MANY = 64


def load(memory: str = "full") -> Model:
    return fewstep.load("starter", device="cuda", dtype="float32", memory=memory)


def painted(model: Model, count: int = 1) -> np.ndarray:
    images = fewstep.text2image(model, PROMPT, num_images=count, seed=1, steps=2, batch_size=count)
    return np.stack([np.asarray(image, dtype=int) for image in images])


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that were in use at once during a call, what was in use before it included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def cap(size: float) -> None:
    """From now on the allocator gives no more than `size` bytes to this process."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(0).total_memory)


def held() -> int:
    """Bytes in use by what still lives."""
    gc.collect()
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize("memory", ["parts", "layers"])
def test_a_policy_paints_the_same_picture_in_less(memory: str) -> None:
    whole = load()
    reference, with_weights = painted(whole), held()
    del whole
    without = held()  # the libraries' own work space
    assert with_weights > without
    spread = load(memory)
    assert held() - without < (with_weights - without) / 10
    assert spread.device.type == "cuda"
    assert np.abs(painted(spread) - reference).max() <= GREY_LEVELS


def test_weights_that_do_not_fit_take_turns() -> None:
    before, whole = held(), load()
    weights = held() - before
    reference = painted(whole)
    del whole
    cap(held() + weights / 2)
    with pytest.warns(FewstepWarning, match="does not fit onto"):
        model = load("auto")
    torch.cuda.set_per_process_memory_fraction(1.0)  # what a picture takes is the next test's
    assert model.placement.device is not None
    assert np.abs(painted(model) - reference).max() <= GREY_LEVELS


def test_a_batch_that_does_not_fit_is_painted_in_parts() -> None:
    model = load()
    reference = painted(model, MANY)
    one, many = peak_of(lambda: painted(model)), peak_of(lambda: painted(model, MANY))
    assert many > 1.5 * one
    cap((one + many) / 2)
    with pytest.warns(FewstepWarning, match="do not fit into memory at once"):
        pictures = painted(model, MANY)
    assert np.abs(pictures - reference).max() <= GREY_LEVELS


def test_after_that_everything_fits_as_before() -> None:
    model = load()
    one, many = peak_of(lambda: painted(model)), peak_of(lambda: painted(model, MANY))
    before = held()
    cap((one + many) / 2)
    with pytest.warns(FewstepWarning):
        painted(model, MANY)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert held() <= 1.01 * before
    assert painted(model, MANY).shape[0] == MANY
