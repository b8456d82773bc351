"""Pictures near to another, larger ones in two rounds, and large ones in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewstep
from fewstep.cli.main import main
from fewstep.cli.output import write_picture
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.imaging.reading import read_image
from fewstep.models.model import Model
from fewstep.pipelines.plan import complete
from fewstep.pipelines.provenance import Record, read_record, record_of
from fewstep.pipelines.request import Request

PROMPT = "a red cat"


def values(image: Image.Image) -> Any:
    return np.asarray(image, dtype=int)


def apart(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(values(a) - values(b)).mean())


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_variations_lie_between_two_seeds(request: pytest.FixtureRequest, kind: str) -> None:
    model: Model = request.getfixturevalue(kind)
    paint = lambda seed, **more: fewstep.text2image(model, PROMPT, seed=seed, steps=2, **more)  # noqa: E731
    here, there = paint(7), paint(20)
    assert np.array_equal(values(paint(7, variation=0.0)), values(here))
    assert np.abs(values(paint(7, variation=1.0, variation_seed=20)) - values(there)).max() <= 1
    near, far = paint(7, variation=0.1, variation_seed=20), paint(7, variation=0.6, variation_seed=20)
    assert 0 < apart(near, here) < apart(far, here)
    record = record_of(near)
    assert record is not None
    assert (record.seed, record.variation, record.variation_seed) == (7, 0.1, 20)
    assert "Variation seed: 20, Variation seed strength: 0.1" in near.info["parameters"]


def test_several_variations_are_those_made_alone(student: Model) -> None:
    images = fewstep.text2image(student, [PROMPT, "dog"], seed=7, num_images=2, variation=0.3)
    for image, prompt, other in zip(images, (PROMPT, PROMPT, "dog", "dog"), (8, 9, 8, 9), strict=True):
        alone = fewstep.text2image(student, prompt, seed=7, variation=0.3, variation_seed=other)
        assert np.abs(values(alone) - values(image)).max() <= 1


def test_variations_of_a_picture_from_its_file(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--model", str(miniature), "--device", "cpu"]
    assert main(["generate", PROMPT, "--seed", "4", "--steps", "2", "-o", "a.png", *common]) == 0
    assert main(["generate", "--from", "a.png", "--variation", "0.2", "-n", "2", "-o", "near.png", *common]) == 0
    first, second = (read_record(f"near-{n}.png") for n in (1, 2))
    assert (first.seed, first.variation, first.variation_seed, first.steps) == (4, 0.2, 5, 2)
    assert second.variation_seed == 6
    assert main(["generate", "--from", "near-2.png", "-o", "again.png", *common]) == 0
    again, near = read_image("again.png"), read_image("near-2.png")
    assert np.abs(values(again) - values(near)).max() <= 1  # alone, not in two
    arguments = [*common, "--upscale", "1.5", "--refine-strength", "0.3", "--tile"]
    assert main(["generate", PROMPT, "--seed", "4", "-o", "large.png", *arguments]) == 0
    assert read_image("large.png").size == (192, 192)
    assert main(["generate", "--from", "large.png", "-o", "large2.png", *common]) == 0
    assert Path("large.png").read_bytes() == Path("large2.png").read_bytes()
    assert main(["generate", PROMPT, "--variation-seed", "3", *common]) == 2
    assert "a variation seed was given without a variation" in capsys.readouterr().err


def test_upscale_is_the_small_picture_painted_over(student: Model) -> None:
    options: dict[str, Any] = {"seed": 3, "steps": 4}
    large = fewstep.text2image(student, PROMPT, upscale=1.5, refine_strength=0.4, **options)
    small = fewstep.text2image(student, PROMPT, **options)
    by_hand = fewstep.image2image(student, PROMPT, small, strength=0.4, height=192, width=192, **options)
    assert large.size == (192, 192)
    assert np.array_equal(values(large), values(by_hand))
    record = record_of(large)
    assert record is not None
    assert (record.width, record.upscale, record.refine_strength) == (128, 1.5, 0.4)


def test_the_second_round_may_take_other_steps(
    student: Model, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"upscale": 1.5, "refine_strength": 0.5, "seed": 3}
    plan = complete(Request.of(PROMPT, steps=4, refine_steps=2, **options), student)
    assert plan.refinement is not None
    assert (len(plan.timesteps), len(plan.refinement.timesteps), plan.num_steps) == (4, 2, 6)
    large = fewstep.text2image(student, PROMPT, steps=4, refine_steps=2, **options)
    small = fewstep.text2image(student, PROMPT, steps=4, seed=3)
    by_hand = fewstep.image2image(student, PROMPT, small, seed=3, steps=2, strength=0.5, height=192, width=192)
    assert np.array_equal(values(large), values(by_hand))
    monkeypatch.chdir(tmp_path)
    write_picture(large, Path("large.png"))
    assert main(["generate", "--from", "large.png", "--model", str(miniature), "--device", "cpu", "-o", "x.png"]) == 0
    assert Path("x.png").read_bytes() == Path("large.png").read_bytes()


def test_upscale_with_times_of_ones_own_takes_the_later_ones(student: Model) -> None:
    plan = complete(Request.of(PROMPT, 1, upscale=2.0, timesteps=(979, 599, 259)), student)
    assert plan.refinement is not None
    assert plan.refinement.timesteps.tolist() == [259]
    assert plan.num_steps == 3 + 1
    with pytest.raises(InvalidRequest, match="none of the timesteps lies below 400"):
        complete(Request.of(PROMPT, 1, upscale=2.0, timesteps=(979, 599)), student)


def test_times_and_refine_steps_give_way_to_each_other(
    student: Model, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is given anew; a picture made again keeps its own, and the strength that chose among its times."""
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"seed": 3, "upscale": 1.5}
    timed = fewstep.text2image(student, PROMPT, refine_strength=0.65, timesteps=[979, 599, 259], **options)
    counted = fewstep.text2image(student, PROMPT, steps=3, refine_steps=1, **options)
    write_picture(timed, Path("timed.png"))
    write_picture(counted, Path("counted.png"))

    def again(*arguments: str) -> Record:
        assert main(["generate", *arguments, "--model", str(miniature), "--device", "cpu", "-o", "x.png"]) == 0
        return read_record("x.png")

    assert (record_of(timed).refine_strength, record_of(timed).refine_steps) == (0.65, None)  # type: ignore[union-attr]
    again("--from", "timed.png")
    assert Path("x.png").read_bytes() == Path("timed.png").read_bytes()
    record = again("--from", "timed.png", "--refine-steps", "1")
    assert (record.timesteps, record.steps, record.refine_steps) == (None, 3, 1)
    record = again("--from", "counted.png", "--timesteps", "979,259")
    assert (record.timesteps, record.refine_strength, record.refine_steps) == ((979, 259), 0.4, None)


@pytest.mark.parametrize(("steps", "strength", "expected"), [(1, 0.4, 3), (2, 0.3, 4), (10, 0.05, 20), (9, 0.4, 9)])
def test_the_second_round_of_an_ordinary_model_has_a_step_to_walk(
    teacher: Model, steps: int, strength: float, expected: int
) -> None:
    asked = Request.of(PROMPT, 1, steps=steps, upscale=2.0, refine_strength=strength, sampler="ddim")
    refinement = complete(asked, teacher).refinement
    assert refinement is not None
    assert refinement.steps == expected
    assert len(refinement.timesteps) == int(expected * strength)
    with pytest.raises(InvalidRequest, match=r"painting over the larger picture: strength 0.4 leaves none of 2 steps"):
        complete(Request.of(PROMPT, 1, steps=9, upscale=2.0, refine_steps=2), teacher)


def test_every_step_of_both_rounds_is_told(teacher: Model) -> None:
    steps: list[Any] = []
    options: dict[str, Any] = {"num_images": 2, "steps": 5, "upscale": 2.0, "on_step": steps.append}
    images = fewstep.text2image(teacher, PROMPT, seed=1, **options)
    assert [image.size for image in images] == [(256, 256)] * 2
    assert len(steps) == complete(Request.of(PROMPT, 1, 2, steps=5, upscale=2.0), teacher).num_steps == 5 + 2 * 2


def test_one_window_is_the_plain_picture(student: Model) -> None:
    plain = fewstep.text2image(student, PROMPT, seed=2)
    assert np.array_equal(values(fewstep.text2image(student, PROMPT, seed=2, tile=True)), values(plain))


@pytest.mark.parametrize(("height", "width"), [(128, 304), (208, 144), (320, 320)])
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_windows_at_any_size(request: pytest.FixtureRequest, kind: str, height: int, width: int) -> None:
    model: Model = request.getfixturevalue(kind)
    sizes = set()
    plain = model.denoise.network

    def spy(x_t: Any, *rest: Any) -> Any:
        sizes.add(tuple(x_t.shape[-2:]))
        return plain(x_t, *rest)

    object.__setattr__(model.denoise, "network", spy)
    try:
        image = fewstep.text2image(model, PROMPT, seed=2, steps=2, height=height, width=width, tile=True)
    finally:
        object.__setattr__(model.denoise, "network", plain)
    assert image.size == (width, height)
    assert sizes == {(min(8, height // 16), min(8, width // 16))}


def test_advice_for_pictures_far_over_the_trained_size(student: Model) -> None:
    with pytest.warns(FewstepWarning, match="trained on 128 x 128 and tends to paint things twice at 256 x 128"):
        fewstep.text2image(student, PROMPT, width=256, steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variation": 1.5}, "the variation is 1.5; it must be a number from 0 to 1"),
        ({"variation": 0.5, "variation_seed": -1}, "the variation seed is -1"),
        ({"upscale": 1}, "the upscale is 1, which changes nothing"),
        ({"upscale": 9}, "the upscale is 9; it must be a number from 1 to 4"),
        ({"refine_strength": 0.5}, "a refine strength was given without an upscale"),
        ({"upscale": 2, "refine_strength": 0}, "the refine strength is 0"),
        ({"refine_steps": 2}, "refine steps were given without an upscale"),
        ({"upscale": 2, "refine_steps": 0}, "the number of refine steps is 0"),
        ({"upscale": 2, "refine_steps": 2, "timesteps": [999, 259]}, "timesteps say all that refine steps say"),
        ({"upscale": 4, "width": 2048}, "8192 x 512 is too large"),
    ],
)
def test_what_makes_no_sense_is_refused(student: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        fewstep.text2image(student, PROMPT, seed=1, **options)
