"""The rival does the same work: diffusers' own pipeline paints the pictures that we paint, to a grey level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fewstep
from benchmarks.rival import painter
from conftest import NEEDS_STARTER


@pytest.mark.slow
@pytest.mark.parametrize("model", ["miniature", pytest.param("starter", marks=NEEDS_STARTER)])
def test_it_paints_our_pictures(model: str, miniature: Path) -> None:
    name = str(miniature) if model == "miniature" else model
    paint, ours = painter(name), fewstep.load(name, device="cpu")
    for steps in (1, 2):
        expected = np.asarray(fewstep.text2image(ours, "a cat face", steps=steps, seed=7), dtype=int)
        assert expected.std() > 1
        assert np.abs(np.asarray(paint("a cat face", steps, 7), dtype=int) - expected).max() <= 1
