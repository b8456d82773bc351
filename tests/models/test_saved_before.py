"""What older versions saved still loads, and what is saved now is what they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fewstep
from fewstep.core.profile import Facts, Grid, Guidance
from fewstep.models.card import read_card, write_card
from fewstep.models.profile import profile_of

# `fewstep.json` of a model that `fewstep distill` made, and the scheduler beside it.
DISTILLED = """{
  "name": "run",
  "kind": "lcm",
  "steps": 4,
  "guidance_scale": 4.0,
  "w_range": [
    0.0,
    8.0
  ],
  "prediction_type": "v_prediction",
  "original_inference_steps": 25,
  "timestep_scaling": 8.0,
  "sampler": "tcd",
  "gamma": 0.0,
  "phases": 2,
  "teacher": "miniature-teacher",
  "data": [
    "pics"
  ],
  "licences": [],
  "measured": {
    "teacher_gap": 1.04804
  },
  "shared": null
}
"""
SCHEDULER = {
    "_class_name": "TCDScheduler",
    "_diffusers_version": "0.42.1",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "trained_betas": None,
    "original_inference_steps": 25,
    "timestep_scaling": 8.0,
}
# Of a teacher: the sampler, gamma and phases mean nothing.
TEACHER = """{"name": "starter-teacher", "kind": "diffusion", "steps": 25, "guidance_scale": 3.0, "w_range": null,
  "prediction_type": "v_prediction", "original_inference_steps": 50, "timestep_scaling": 10.0, "sampler": "lcm",
  "gamma": 0.3, "phases": 1, "teacher": null, "data": ["noto"], "licences": ["Apache-2.0"], "measured": {},
  "shared": ".."}"""
# Before there were other samplers than LCM's.
EARLY = """{"name": "early", "kind": "lcm", "steps": 4, "guidance_scale": 8.0, "w_range": [2.0, 14.0]}"""
# The record in the metadata of an LCM-LoRA.
LORA: Facts = json.loads(
    '{"kind": "lcm", "base": "miniature-teacher", "steps": 4, "guidance_scale": 1.0, "w_range": [3.0, 3.0], '
    '"sampler": "tcd", "gamma": 0.0, "phases": 1, "original_inference_steps": 25, "timestep_scaling": 8.0}'
)


def test_the_card_of_a_distilled_model(tmp_path: Path) -> None:
    (tmp_path / "fewstep.json").write_text(DISTILLED)
    card, facts = read_card(tmp_path)
    assert card is not None
    assert (card.name, card.teacher, card.data) == ("run", "miniature-teacher", ("pics",))
    profile = profile_of(SCHEDULER, facts, embedded=True)
    assert (profile.kind, profile.steps, profile.sampler, profile.gamma, profile.phases) == ("lcm", 4, "tcd", 0.0, 2)
    assert profile.guidance == Guidance(4.0, (0.0, 8.0), embedded=True)
    assert profile.grid == Grid(25, 8.0)


def test_the_card_of_a_teacher(tmp_path: Path) -> None:
    (tmp_path / "fewstep.json").write_text(TEACHER)
    card, facts = read_card(tmp_path)
    assert card is not None
    assert (card.shared, card.teacher) == ("..", None)
    profile = profile_of(SCHEDULER | {"_class_name": "DDIMScheduler"}, facts, embedded=False)
    assert (profile.kind, profile.steps, profile.guidance) == ("diffusion", 25, Guidance(3.0))


def test_an_early_card(tmp_path: Path) -> None:
    (tmp_path / "fewstep.json").write_text(EARLY)
    profile = profile_of(SCHEDULER, read_card(tmp_path)[1], embedded=True)
    assert (profile.sampler, profile.gamma, profile.phases, profile.grid) == ("lcm", 0.3, 1, Grid(25, 8.0))


@pytest.mark.parametrize("text", [DISTILLED, TEACHER])
def test_a_card_is_written_as_older_versions_read_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "fewstep.json").write_text(text)
    card, facts = read_card(tmp_path)
    assert card is not None
    scheduler: dict[str, Any] = SCHEDULER if facts["kind"] == "lcm" else SCHEDULER | {"_class_name": "DDIMScheduler"}
    if facts["kind"] == "diffusion":
        scheduler = {k: v for k, v in scheduler.items() if k not in ("original_inference_steps", "timestep_scaling")}
    profile = profile_of(scheduler, facts, embedded=False)
    assert json.loads(write_card(tmp_path, card, profile).read_text()) == json.loads(text)


def test_the_record_of_an_lcm_lora(miniature: Path) -> None:
    teacher = fewstep.load(miniature / "teacher", device="cpu").profile
    profile = teacher.as_few_step(LORA)
    assert (profile.kind, profile.steps, profile.sampler, profile.gamma, profile.grid) == (
        "lcm", 4, "tcd", 0.0, Grid(25, 8.0)
    )  # fmt: skip
    assert profile.guidance == Guidance(1.0, (3.0, 3.0))
    assert profile.facts() == {name: value for name, value in LORA.items() if name != "base"} | {"w_range": (3.0, 3.0)}
