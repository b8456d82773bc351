"""A sampling profile: its defaults, what may be asked of it, what it becomes, and what cannot be one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fewstep.core.prediction import EPSILON, Velocity
from fewstep.core.profile import Facts, Grid, Guidance, Kind, SamplingProfile, Spacing
from fewstep.core.schedules import DiscreteSchedule, RectifiedFlow

SCHEDULE = DiscreteSchedule.from_betas()
TEACHER = SamplingProfile.default("diffusion", SCHEDULE, EPSILON, spacing=Spacing("leading", 1, 0))
STUDENT = SamplingProfile.default("lcm", SCHEDULE, Velocity(), Grid(25, 8.0))


@pytest.mark.parametrize(
    ("kind", "embedded", "steps", "scale", "sampler"),
    [
        ("diffusion", False, 25, 7.5, "dpm++"),
        ("lcm", False, 4, 1.0, "lcm"),
        ("lcm", True, 4, 8.5, "lcm"),
    ],
)
def test_what_nobody_says_is_as_in_diffusers(
    kind: Kind, embedded: bool, steps: int, scale: float, sampler: str
) -> None:
    profile = SamplingProfile.default(kind, SCHEDULE, EPSILON, embedded=embedded)
    assert (profile.steps, profile.guidance.scale, profile.sampler) == (steps, scale, sampler)


@pytest.mark.parametrize(
    ("kind", "w_range", "embedded", "allowed"),
    [
        ("diffusion", None, False, (1.0, 100.0)),
        ("diffusion", (2.0, 14.0), True, (3.0, 15.0)),
        ("lcm", (2.0, 14.0), True, (3.0, 15.0)),
        ("lcm", None, True, (1.0, 100.0)),
        ("lcm", None, False, (1.0, 2.0)),
        ("lcm", (0.0, 6.0), False, (1.0, 2.0)),
        ("lcm", (0.0, 0.0), False, (1.0, 100.0)),
    ],
)
def test_the_guidance_that_may_be_asked_for(
    kind: Kind, w_range: tuple[float, float] | None, embedded: bool, allowed: tuple[float, float]
) -> None:
    profile = replace(SamplingProfile.default(kind, SCHEDULE, EPSILON), guidance=Guidance(1.0, w_range, embedded))
    assert profile.guidance_range == allowed
    assert profile.bakes_guidance_in == (allowed == (1.0, 2.0))


def test_another_kind_brings_its_defaults_and_keeps_the_rest() -> None:
    asked = replace(STUDENT, guidance=Guidance(3.0, (0.0, 6.0), embedded=True), sampler="tcd", steps=2)
    slow = asked.of_kind("diffusion")
    assert (slow.kind, slow.steps, slow.sampler) == ("diffusion", 25, "dpm++")
    assert slow.guidance == Guidance(7.5, None, embedded=True)
    assert (slow.schedule, slow.prediction, slow.grid) == (asked.schedule, asked.prediction, asked.grid)
    assert asked.of_kind("lcm") is asked


def test_an_adapter_without_a_record_makes_four_steps_without_guidance() -> None:
    fast = TEACHER.as_few_step({})
    assert (fast.kind, fast.steps, fast.sampler, fast.grid) == ("lcm", 4, "lcm", Grid())
    assert fast.guidance == Guidance(1.0)
    assert (fast.prediction, fast.spacing) == (TEACHER.prediction, TEACHER.spacing)


def test_an_adapters_record_says_how_it_is_sampled() -> None:
    record: Facts = {"steps": 2, "guidance_scale": 3.0, "w_range": [1.0, 3.0], "sampler": "tcd", "phases": 2}
    fast = TEACHER.as_few_step({**record, "gamma": 0.0, "original_inference_steps": 25, "timestep_scaling": 8.0})
    assert (fast.steps, fast.sampler, fast.gamma, fast.phases, fast.grid) == (2, "tcd", 0.0, 2, Grid(25, 8.0))
    assert fast.guidance == Guidance(3.0, (1.0, 3.0))
    assert fast.as_few_step({"steps": 8}) is fast


def test_facts_make_the_same_profile() -> None:
    profile = replace(STUDENT, guidance=Guidance(3.0, (0.0, 6.0)), sampler="tcd", gamma=0.1, phases=4, steps=4)
    assert STUDENT.updated(profile.facts()) == profile
    assert TEACHER.updated(TEACHER.facts()) == TEACHER


def test_the_end_of_the_betas_changes_there_and_back() -> None:
    ends_in_noise = TEACHER.with_zero_snr(True)
    assert (TEACHER.zero_snr, ends_in_noise.zero_snr) == (False, True)
    assert ends_in_noise.schedule.alphas_cumprod[-1] == 0
    assert torch.equal(ends_in_noise.with_zero_snr(False).schedule.table, SCHEDULE.table)
    flow = replace(TEACHER, schedule=RectifiedFlow())
    assert flow.with_zero_snr(False) is flow
    with pytest.raises(ValueError, match="not made of betas"):
        flow.with_zero_snr(True)


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"kind": "gan"}, "the kind is 'gan'; it must be one of lcm, diffusion"),
        ({"steps": 0}, "the steps are 0"),
        ({"steps": "4"}, "the steps are '4'"),
        ({"guidance_scale": float("nan")}, "the guidance_scale is nan"),
        ({"guidance_scale": None}, "the guidance_scale is None"),
        ({"w_range": [9.0, 1.0]}, "the w_range"),
        ({"w_range": [1.0]}, "the w_range"),
        ({"w_range": ["a", "b"]}, "the w_range"),
        ({"gamma": 2.0}, "the gamma is 2.0"),
        ({"phases": 0}, "in 0 phases"),
    ],
)
def test_what_cannot_be_is_refused_in_words(facts: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        STUDENT.updated(facts)
