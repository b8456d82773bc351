"""A plan takes what was left open from the model's card, and refuses what the model cannot do."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import fewstep
from fewstep.core.prediction import Flow
from fewstep.core.profile import Kind, SamplingProfile
from fewstep.core.schedules import RectifiedFlow, ShiftBySize
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.generate import generate_plan
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.provenance import Record
from fewstep.pipelines.request import Request
from fewstep.pipelines.sample import sample

PICTURE = Image.new("RGB", (128, 128))


@pytest.fixture(scope="module")
def unguided(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A consistency model whose network does not read w (like LCM-LoRA or DMD2 models)."""
    folder = Path(shutil.copytree(miniature, tmp_path_factory.mktemp("unguided") / "unguided"))
    shutil.rmtree(folder / "unet")
    shutil.move(folder / "teacher" / "unet", folder / "unet")
    (folder / "fewstep.json").unlink()
    return fewstep.load(folder, device="cpu")


def plan(model: Model, **options: Any) -> Plan:
    return complete(Request.of("a cat", seed=0, **options), model)


def test_the_card_fills_in_what_was_left_open(student: Model, teacher: Model) -> None:
    fast, slow = plan(student), plan(teacher)
    assert (fast.steps, fast.guidance_scale, fast.sampler, fast.strength) == (4, 8.0, "lcm", 1.0)
    assert (slow.steps, slow.guidance_scale, slow.sampler, slow.strength) == (25, 4.0, "dpm++", 1.0)
    assert (fast.height, fast.width) == (128, 128)
    assert plan(student, image=PICTURE).strength == 0.5


def test_what_was_asked_for_wins(student: Model) -> None:
    asked = plan(student, steps=2, guidance_scale=5, height=64, width=256)
    assert (asked.steps, asked.guidance_scale, asked.height, asked.width) == (2, 5.0, 64, 256)


def test_the_times_are_those_of_the_sampler(student: Model, teacher: Model) -> None:
    assert plan(student).timesteps.tolist() == [999, 759, 499, 259]
    assert plan(student, image=PICTURE, strength=0.58, steps=1).timesteps.tolist() == [579]
    assert plan(teacher, steps=4).timesteps.tolist() == [999, 749, 499, 249]
    assert plan(teacher, steps=4, sampler="lcm").timesteps.tolist() == [999, 759, 499, 259]
    assert plan(teacher, steps=4, image=PICTURE, strength=0.5).timesteps.tolist() == [499, 249]


def test_times_may_be_given(student: Model, teacher: Model) -> None:
    given = plan(student, timesteps=(999, 459, 19))
    assert (given.timesteps.tolist(), given.steps, given.strength, given.advice) == ([999, 459, 19], 3, None, ())
    (advice,) = plan(student, timesteps=(999, 500)).advice
    assert "was distilled on the times 19, 39, … 999 and guesses at 500" in advice
    assert plan(teacher, timesteps=(999, 500)).advice == ()
    assert plan(teacher, timesteps=(999.0, 500)).timesteps.dtype == torch.int64


def as_flow(model: Model, flow: RectifiedFlow, kind: Kind = "diffusion") -> Model:
    return dataclasses.replace(model, profile=SamplingProfile.default(kind, flow, Flow()))


def test_times_on_a_flow_are_real(teacher: Model) -> None:
    """They may be given so, and a picture's record makes the same picture again."""
    flow = as_flow(teacher, RectifiedFlow(3.0))
    assert plan(flow, steps=2).timesteps.tolist() == pytest.approx([1000, 750])
    picture = fewstep.text2image(flow, "a cat", seed=0, timesteps=[1000, 612.5])
    record = Record.from_json(picture.info["fewstep"])
    assert record.timesteps == (1000, 612.5)
    again = fewstep.text2image(flow, "a cat", seed=0, timesteps=list(record.timesteps))
    assert again.tobytes() == picture.tobytes()
    assert FIELDS["timesteps"].read("1000,612.5") == (1000, 612.5)
    for wrong in ((1001.0, 5.0), (500.0, 0.0)):
        with pytest.raises(InvalidRequest, match="knows those above 0, up to 1000"):
            plan(flow, timesteps=wrong)
    assert plan(as_flow(teacher, RectifiedFlow(), "lcm"), timesteps=(1000, 512.5)).advice == ()


def test_a_shift_by_size_is_that_of_the_picture(teacher: Model) -> None:
    flow = as_flow(teacher, RectifiedFlow(by_size=ShiftBySize()))
    small, large = (plan(flow, steps=4, height=side, width=side) for side in (128, 512))
    assert small.profile.schedule == RectifiedFlow(ShiftBySize()(flow.traits.tokens(128, 128)))
    assert all(low < high for low, high in zip(small.timesteps[1:], large.timesteps[1:], strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timesteps": ()}, "they must fall"),
        ({"timesteps": (5, 5)}, "they must fall"),
        ({"timesteps": (5, 9)}, "they must fall"),
        ({"timesteps": (5, -1)}, "a timestep is -1"),
        ({"timesteps": (9.5, 5)}, "the timestep 9.5 is not whole, and miniature knows whole times alone"),
        ({"timesteps": (float("nan"), 5)}, "a timestep is nan; it must be a number"),
        ({"timesteps": (1000, 5)}, "1000 is beyond miniature, which knows 0 to 999"),
        ({"timesteps": (9, 5), "steps": 2}, "give them alone"),
        ({"timesteps": (9, 5), "image": PICTURE, "strength": 0.5}, "give them alone"),
    ],
)
def test_times_that_cannot_be(student: Model, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        plan(student, **options)


def test_too_many_steps_for_a_consistency_model_are_advised_against(student: Model) -> None:
    assert plan(student, steps=8).advice == ()
    assert "is made for 1 to 8 steps; 20 are slower" in plan(student, steps=20).advice[0]


def test_little_guidance_is_advised_against_where_it_is_inside_and_no_card_says_better(student: Model) -> None:
    guidance = dataclasses.replace(student.profile.guidance, w_range=None)
    unknown = dataclasses.replace(student, profile=dataclasses.replace(student.profile, guidance=guidance))
    assert plan(unknown, guidance_scale=3.0).advice == ()
    assert "at 1.5 pictures grow vague" in plan(unknown, guidance_scale=1.5).advice[0]


def test_ddim_ends_where_the_folder_says(teacher: Model) -> None:
    spacing = dataclasses.replace(teacher.profile.spacing, final_timestep=0)
    as_in_sd15 = dataclasses.replace(teacher, profile=dataclasses.replace(teacher.profile, spacing=spacing))

    def end(model: Model, **options: Any) -> float:
        return list(sample(model, plan(model, **{"sampler": "ddim", "steps": 2} | options)))[-1].t

    assert end(as_in_sd15) == 0
    assert end(as_in_sd15, sampler="dpm++") == -1
    assert end(as_in_sd15, steps=None, timesteps=(999, 499)) == -1
    assert end(teacher) == -1


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("student", {"steps": 51}, "51 steps at strength 1 do not fit.* 50"),
        ("student", {"steps": 4, "image": PICTURE, "strength": 0.05}, "do not fit"),
        ("student", {"image": PICTURE, "strength": 0.001}, "do not fit"),
        ("teacher", {"steps": 4, "image": PICTURE, "strength": 0.1}, "leaves none of 4 steps"),
        ("student", {"sampler": "ddim"}, "'ddim' is not for miniature, which is of kind 'lcm'; use lcm"),
        ("student", {"guidance_scale": 2.9}, "scale is 2.9; miniature was distilled for 3 to 15"),
        ("student", {"guidance_scale": 16}, "was distilled for 3 to 15"),
        ("unguided", {"guidance_scale": 7.5}, "has learnt its guidance, .*: 1 to 2 are allowed"),
        ("student", {"height": 100}, "the height is 100; for miniature it must be a multiple of 16"),
        ("teacher", {"width": 120}, "the width is 120"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    request: pytest.FixtureRequest, kind: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        plan(request.getfixturevalue(kind), **options)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("student", {}, "its guidance is part of the network"),
        ("teacher", {"guidance_scale": 1}, "a guidance scale of 1 is none"),
        ("unguided", {}, "a guidance scale of 1 is none"),
    ],
)
def test_a_negative_prompt_without_effect_is_said_and_warned_of(
    request: pytest.FixtureRequest, kind: str, options: dict[str, Any], reason: str
) -> None:
    model = request.getfixturevalue(kind)
    useless = plan(model, negative_prompt="ugly", steps=1, **options)
    assert useless.advice == (f"the negative prompt has no effect on {model.name}: {reason}",)
    with pytest.warns(FewstepWarning, match=f"has no effect on .*: {reason}"):
        generate_plan(model, useless)


def test_a_negative_prompt_with_effect_brings_no_advice(teacher: Model) -> None:
    assert plan(teacher, negative_prompt="ugly").negative_prompt == "ugly"
    assert plan(teacher, negative_prompt="ugly").advice == plan(teacher).advice == ()


def test_batches_are_the_same_pictures_in_the_same_order(student: Model) -> None:
    whole = complete(Request.of("a cat", seed=0, num_images=7), student, batch_size=3)
    batches = list(whole.batches())
    assert [len(batch.seeds) for batch in batches] == [3, 3, 1]
    assert whole.num_steps == 3 * len(whole.timesteps)
    assert sum((batch.seeds for batch in batches), ()) == whole.seeds


def test_large_pictures_go_through_the_network_in_small_batches(student: Model) -> None:
    assert [plan(student, height=side, width=side).batch_size for side in (128, 1024, 4096)] == [16, 4, 1]
    with pytest.raises(InvalidRequest, match="the batch size is 0"):
        complete(Request.of("a cat"), student, batch_size=0)
