"""Travels: the stops are the pictures that they name, and between them nothing jumps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fewstep
from fewstep.cli.main import main
from fewstep.core.noise import NoiseBetween, PictureNoise, slerp
from fewstep.core.samplers.base import Step
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines import generate as generate_module
from fewstep.pipelines.plan import Plan
from fewstep.pipelines.travel import Frame, frames_on_the_way, there_and_back


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=int)


def test_slerp_walks_the_arc_at_an_even_pace() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    for u in (0.0, 0.25, 0.5, 1.0):
        angle = u * math.pi / 2
        expected = torch.tensor([[2 * math.cos(angle), 2 * math.sin(angle)]])
        torch.testing.assert_close(slerp(a, b, torch.tensor([u])), expected, rtol=1e-6, atol=1e-6)


@given(st.floats(-3, 3).filter(lambda x: abs(x) > 0.01), st.floats(0, 1))
def test_slerp_of_parallel_rows_is_a_line(factor: float, u: float) -> None:
    a = torch.tensor([[1.0, -2.0, 0.5]])
    expected = a + u * (factor * a - a)
    torch.testing.assert_close(slerp(a, factor * a, torch.tensor([u])), expected, rtol=1e-5, atol=1e-5)


def test_noise_between_two_seeds_is_unit_noise_again() -> None:
    noise = NoiseBetween([1] * 3, [2] * 3, [0.0, 0.5, 1.0])
    first, second = noise.draw((100_000,)), noise.draw((100_000,))
    for seed, row in ((1, 0), (2, 2)):
        stream = PictureNoise([seed])
        torch.testing.assert_close(first[row], stream.draw((100_000,))[0])
        torch.testing.assert_close(second[row], stream.draw((100_000,))[0])
    assert first[1].std() == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="give as many"):
        NoiseBetween([1], [2, 3], [0.5])


def test_frames_are_spread_evenly() -> None:
    assert frames_on_the_way(2, 3) == [Frame(0, 0.0), Frame(0, 0.5), Frame(0, 1.0)]
    assert frames_on_the_way(3, 5) == [Frame(0, 0.0), Frame(0, 0.5), Frame(1, 0.0), Frame(1, 0.5), Frame(1, 1.0)]
    assert there_and_back("abcd") == list("abcdcb")  # type: ignore[arg-type, comparison-overlap]
    for stops, frames in ((1, 9), (3, 2), (2, 10**6)):
        with pytest.raises(InvalidRequest):
            frames_on_the_way(stops, frames)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_the_stops_are_the_pictures_that_they_name(request: pytest.FixtureRequest, kind: str) -> None:
    model: Model = request.getfixturevalue(kind)
    images = fewstep.travel(model, [("a cat", 1), ("a dog", 1), ("a dog", 5)], 9, steps=2)
    for frame, (prompt, seed) in {0: ("a cat", 1), 4: ("a dog", 1), 8: ("a dog", 5)}.items():
        expected = fewstep.text2image(model, prompt, seed=seed, steps=2)
        assert np.abs(pixels(images[frame]) - pixels(expected)).max() <= 1
    moved = [np.abs(pixels(a) - pixels(b)).mean() for a, b in pairwise(images)]
    assert min(moved) > 0
    assert max(moved[4:]) < np.abs(pixels(images[4]) - pixels(images[8])).mean()


def test_frames_that_do_not_fit_into_memory_at_once_are_the_same(
    student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames() -> list[Image.Image]:
        return fewstep.travel(student, [("a cat", 1), ("a dog", 5)], 5, steps=1)

    expected = frames()
    painted = generate_module.sample

    def little_memory(model: Model, plan: Plan, *given: Any) -> Iterator[Step]:
        if len(plan.seeds) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return painted(model, plan, *given)

    monkeypatch.setattr(generate_module, "sample", little_memory)
    with pytest.warns(FewstepWarning, match="5 pictures of 128 x 128 do not fit into memory at once: 3 at a time"):
        images = frames()
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(images, expected, strict=True))


def test_a_way_takes_the_options_of_a_picture(student: Model) -> None:
    options: dict[str, Any] = {"timesteps": [999, 490], "upscale": 1.5, "refine_strength": 0.6}
    with pytest.warns(FewstepWarning, match="guesses at 490"):
        images = fewstep.travel(student, [("a cat", 1), ("a dog", 5)], 3, batch_size=1, **options)
    with pytest.warns(FewstepWarning, match="guesses at 490"):
        last = fewstep.text2image(student, "a dog", seed=5, **options)
    assert np.abs(pixels(images[2]) - pixels(last)).max() <= 1
    assert images[1].size == (192, 192)
    with pytest.raises(InvalidRequest, match="the variation seed of a way is in its stops"):
        fewstep.travel(student, [("a cat", 1), ("a dog", 5)], 3, variation_seed=2)


def test_on_the_command_line(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--model", str(miniature), "--steps", "1", "--device", "cpu"]
    for name in ("a.webp", "b.gif", "c.png"):
        assert main(["travel", "a cat", "a dog", "-o", name, "--frames", "4", "--back", *common]) == 0
        with Image.open(name) as animation:
            assert (animation.n_frames, animation.size) == (6, (128, 128))  # type: ignore[attr-defined]
    told = capsys.readouterr()
    assert told.out.split() == ["a.webp", "b.gif", "c.png"]
    assert main(["travel", "a cat", "--seed", "1", "--seed", "2", "-o", "d.gif", "--frames", "3", *common]) == 0
    for arguments, words in (
        (["travel", "a cat", "-o", "x.gif", *common], "1 stops were given"),
        (["travel", "a cat", "a dog", "-o", "x.mp4", *common], "name must end in .webp, .gif, .png"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*")) + list(tmp_path.glob(".few*"))
