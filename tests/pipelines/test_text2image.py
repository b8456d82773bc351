"""What a caller relies on: seeds, batches, lists, callbacks, guidance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewstep
from fewstep.core.samplers.base import Step
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines import generate as generate_module
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.request import Request
from fewstep.pipelines.sample import sample
from miniature import write_miniature


def difference(a: Image.Image, b: Image.Image) -> int:
    """The largest difference in grey levels."""
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


@pytest.fixture(scope="module")
def student_of(family: Path) -> Model:
    return fewstep.load(family, device="cpu")


@pytest.mark.parametrize("steps", [1, 4])
def test_a_picture_is_the_same_alone_and_in_company(student_of: Model, steps: int) -> None:
    together = fewstep.text2image(student_of, "a red cat", steps=steps, seed=5, num_images=5, batch_size=4)
    alone = [fewstep.text2image(student_of, "a red cat", steps=steps, seed=seed) for seed in range(5, 10)]
    assert max(difference(a, b) for a, b in zip(together, alone, strict=True)) <= 1
    assert min(difference(together[0], other) for other in together[1:]) > 10


def test_a_guided_picture_is_the_same_alone_and_in_company(teacher: Model) -> None:
    together = fewstep.text2image(teacher, "cat", steps=2, seed=5, num_images=3, negative_prompt="red dog")
    alone = [fewstep.text2image(teacher, "cat", steps=2, seed=s, negative_prompt="red dog") for s in (5, 6, 7)]
    assert max(difference(a, b) for a, b in zip(together, alone, strict=True)) <= 1


def test_several_prompts_are_each_as_if_alone(student_of: Model) -> None:
    together = fewstep.text2image(student_of, ["a red cat", "robot"], seed=3, num_images=2)
    alone = [
        picture
        for prompt in ("a red cat", "robot")
        for picture in fewstep.text2image(student_of, prompt, seed=3, num_images=2)
    ]
    assert max(difference(a, b) for a, b in zip(together, alone, strict=True)) <= 1


def test_one_prompt_gives_one_picture_and_a_number_gives_a_list(student: Model) -> None:
    one = fewstep.text2image(student, "cat", seed=1)
    assert isinstance(one, Image.Image)
    assert one.size == (128, 128)
    for many in (
        fewstep.text2image(student, "cat", seed=1, num_images=1),
        fewstep.text2image(student, ["cat"], seed=1),
        fewstep.image2image(student, "cat", one, num_images=1),
    ):
        assert isinstance(many, list)
        assert len(many) == 1


def test_the_seed_decides(student: Model) -> None:
    a, b, c = (fewstep.text2image(student, "cat", seed=seed) for seed in (1, 1, 2))
    assert difference(a, b) == 0
    assert difference(a, c) > 10


def test_nothing_touches_the_global_random_state(student: Model) -> None:
    torch.manual_seed(0)
    expected = torch.random.get_rng_state()
    fewstep.text2image(student, "cat", seed=1)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_the_words_and_the_guidance_decide(student: Model, teacher: Model) -> None:
    for model in (student, teacher):
        cat, dog = (fewstep.text2image(model, prompt, seed=1, steps=2) for prompt in ("cat", "dog"))
        assert difference(cat, dog) > 0
        low, high = (fewstep.text2image(model, "cat", seed=1, steps=2, guidance_scale=g) for g in (3.0, 14.0))
        assert difference(low, high) > 0


def test_a_negative_prompt_moves_the_teacher(teacher: Model) -> None:
    plain = fewstep.text2image(teacher, "cat", seed=1, steps=2)
    assert difference(plain, fewstep.text2image(teacher, "cat", seed=1, steps=2, negative_prompt="red")) > 0


@pytest.mark.parametrize(("sampler", "steps"), [("heun", 3), ("unipc", 4), ("lcm", 2), ("ddim", 5), ("dpm++", 1)])
def test_every_sampler_of_the_teacher_reports_its_steps(teacher: Model, sampler: str, steps: int) -> None:
    seen: list[Step] = []
    picture = fewstep.text2image(teacher, "cat", seed=1, sampler=sampler, steps=steps, on_step=seen.append)
    assert [(step.index, step.num_steps) for step in seen] == [(index, steps) for index in range(steps)]
    assert np.asarray(picture).std() > 1


def test_other_sizes(student: Model) -> None:
    assert fewstep.text2image(student, "cat", height=64, width=192).size == (192, 64)


def test_painting_can_be_watched_and_stopped_without_disturbing_the_caller(student: Model) -> None:
    steps = sample(student, complete(Request.of("cat", seed=1), student))
    first = next(steps)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert student.decode(first.x0).shape == (1, 3, 128, 128)
    steps.close()


def test_half_precision_paints_nearly_the_same(miniature: Path, student: Model) -> None:
    half = fewstep.load(miniature, device="cpu", dtype="bfloat16")
    exact, rounded = (fewstep.text2image(model, "cat", seed=1) for model in (student, half))
    distance = np.abs(np.asarray(exact, dtype=int) - np.asarray(rounded, dtype=int)).mean()
    assert 0 < distance < 8


def test_little_strength_stays_near_the_picture(student_of: Model) -> None:
    start = fewstep.text2image(student_of, "a red cat", seed=1)
    pixels = np.asarray(start, dtype=int)
    distances = [
        np.abs(
            np.asarray(fewstep.image2image(student_of, "fox", start, strength=s, steps=1, seed=2), dtype=int) - pixels
        )
        for s in (0.04, 1.0)
    ]
    assert distances[0].mean() < distances[1].mean()


def masked(size: tuple[int, int] = (128, 128)) -> Image.Image:
    """White in the left half."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_inpainting_changes_the_masked_part_alone(request: pytest.FixtureRequest, kind: str) -> None:
    model = request.getfixturevalue(kind)
    source = Image.effect_noise((128, 128), 80).convert("RGB")
    painted = fewstep.image2image(model, "a cat", source, mask=masked(), seed=1, steps=4)
    moved = np.abs(np.asarray(painted, dtype=int) - np.asarray(source, dtype=int)).max(axis=(0, 2))  # by column
    assert moved[64 + 8 :].max() == 0
    assert moved[: 64 - 8].min() > 8


def test_a_mask_of_another_size_covers_the_same_part(student: Model) -> None:
    source = Image.new("RGB", (256, 256), "red")
    large = fewstep.image2image(student, "a cat", source, mask=masked((256, 256)), seed=1)
    small = fewstep.image2image(student, "a cat", source, mask=masked((64, 64)), seed=1)
    assert np.array_equal(np.asarray(large), np.asarray(small))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": Image.new("L", (128, 128))}, "black all over"),
        ({"mask": Image.new("L", (128, 64), 255)}, "must have the same shape"),
        ({"mask": "missing.png"}, "no picture at"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(student: Model, options: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        fewstep.image2image(student, "a cat", Image.new("RGB", (128, 128)), **options)
    with pytest.raises(InvalidRequest, match="without a picture"):
        Request.of("a cat", mask=masked())


def test_image_to_image_takes_a_path_or_a_picture_and_nothing_else(student: Model, tmp_path: Path) -> None:
    picture = fewstep.text2image(student, "cat", seed=1)
    picture.save(tmp_path / "cat.png")
    from_path = fewstep.image2image(student, "dog", tmp_path / "cat.png", seed=2)
    assert difference(from_path, fewstep.image2image(student, "dog", picture, seed=2)) == 0
    with pytest.raises(InvalidRequest, match="must be a PIL image or a path, not int"):
        fewstep.image2image(student, "dog", 7)  # type: ignore[call-overload]


def test_too_little_memory_is_told_in_words(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 17.97 GB\nmany lines")

    monkeypatch.setattr(generate_module, "sample", no_memory)
    monkeypatch.setattr(student.autoencoder.module, "use_tiling", True)
    with (
        pytest.warns(FewstepWarning, match="2 pictures of 128 x 128 do not fit into memory at once: 1 at a time"),
        pytest.raises(InvalidRequest, match="a picture of 128 x 128 does not fit into the memory of cpu"),
    ):
        fewstep.text2image(student, "cat", num_images=2)


def test_what_does_not_fit_at_once_is_painted_in_parts(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fewstep.text2image(student, "cat", seed=1, num_images=5)
    painted = generate_module.sample

    def little_memory(model: Model, plan: Plan, *given: Any) -> Iterator[Step]:
        if len(plan.seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return painted(model, plan, *given)

    monkeypatch.setattr(generate_module, "sample", little_memory)
    with pytest.warns(FewstepWarning, match="do not fit into memory at once"):
        images = fewstep.text2image(student, "cat", seed=1, num_images=5)
    for ours, theirs in zip(images, expected, strict=True):
        assert difference(ours, theirs) <= 1


def test_a_decoding_that_does_not_fit_goes_on_in_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fewstep.load(write_miniature(tmp_path, autoencoder="kl"), device="cpu")
    decode = type(model).decode

    def little_memory(self: Model, latents: torch.Tensor) -> torch.Tensor:
        if not self.autoencoder.module.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, latents)

    monkeypatch.setattr(type(model), "decode", little_memory)
    with pytest.warns(FewstepWarning, match="does not fit into memory at once: pictures are decoded in tiles"):
        assert fewstep.text2image(model, "cat", seed=1).size == (128, 128)
