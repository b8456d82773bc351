"""A model's files say how it is sampled: a scheduler's config means to us what it means to diffusers."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, LCMScheduler

from fewstep.core.prediction import Trig
from fewstep.core.profile import Grid, Guidance, Spacing
from fewstep.core.schedules import TrigFlow
from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.models.card import CardFacts
from fewstep.models.profile import profile_of, schedule_of, scheduler_of

LCM = {**LCMScheduler(prediction_type="v_prediction").config, "_class_name": "LCMScheduler"}
DDIM = {**DDIMScheduler(set_alpha_to_one=False, steps_offset=1).config, "_class_name": "DDIMScheduler"}
CARD: CardFacts = {"kind": "lcm", "steps": 2, "guidance_scale": 3.0, "w_range": [0.0, 6.0], "sampler": "tcd"}


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("rescale", [False, True])
def test_the_schedule_is_diffusers_own(kind: str, rescale: bool) -> None:
    scheduler = DDIMScheduler(beta_schedule=kind, beta_start=0.001, beta_end=0.01, rescale_betas_zero_snr=rescale)
    schedule = schedule_of(scheduler.config)
    torch.testing.assert_close(schedule.alphas_cumprod.float(), scheduler.alphas_cumprod, atol=2e-6, rtol=2e-4)


def test_trained_betas_are_read() -> None:
    scheduler = DDIMScheduler(trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3)
    torch.testing.assert_close(schedule_of(scheduler.config).alphas_cumprod.float(), scheduler.alphas_cumprod)


def test_the_facts_of_a_consistency_model() -> None:
    profile = profile_of({**LCM, "original_inference_steps": 100, "timestep_scaling": 7.0}, embedded=True)
    assert (profile.kind, profile.prediction.name, profile.grid) == ("lcm", "v_prediction", Grid(100, 7.0))


def test_the_facts_of_stable_diffusion() -> None:
    profile = profile_of(DDIM, embedded=False)
    assert (profile.kind, profile.spacing) == ("diffusion", Spacing("leading", 1, 0))
    assert profile_of(DDIMScheduler().config, embedded=False).spacing.final_timestep is None


def test_a_network_may_be_few_step_whatever_its_scheduler_is() -> None:
    assert profile_of(DDIM, embedded=True, few_step=True).kind == "lcm"
    assert profile_of(DDIM, {"kind": "diffusion"}, embedded=True, few_step=True).kind == "diffusion"


def test_a_card_says_the_kind_the_steps_the_guidance_and_the_sampler() -> None:
    profile = profile_of(DDIM, CARD, embedded=True)
    assert (profile.kind, profile.steps, profile.sampler) == ("lcm", 2, "tcd")
    assert profile.guidance == Guidance(3.0, (0.0, 6.0), embedded=True)


def test_the_sampler_in_a_diffusion_models_card_is_not_its_own() -> None:
    assert profile_of(DDIM, {**CARD, "kind": "diffusion", "sampler": "lcm"}, embedded=False).sampler == "dpm++"


@pytest.mark.parametrize(
    ("copy", "said"),
    [
        ({"prediction_type": "epsilon"}, "prediction_type = 'epsilon' and scheduler_config.json says 'v_prediction'"),
        ({"timestep_scaling": 1.0}, "timestep_scaling = 1.0 and scheduler_config.json says 10.0"),
        ({"original_inference_steps": 25}, "original_inference_steps = 25 and scheduler_config.json says 50"),
    ],
)
def test_the_schedulers_config_is_the_home_of_what_a_card_copies(copy: Any, said: str) -> None:
    with pytest.warns(FewstepWarning, match=said):
        assert profile_of(LCM, CARD | copy, embedded=True).facts() == profile_of(LCM, CARD, embedded=True).facts()


def test_the_grid_in_a_diffusion_models_card_is_nobodys() -> None:
    with warnings.catch_warnings(action="error"):
        assert profile_of(DDIM, {"kind": "diffusion", "timestep_scaling": 1.0}, embedded=False).grid == Grid()


@pytest.mark.parametrize("sampler", ["lcm", "tcd"])
def test_a_schedulers_config_says_the_same_again(sampler: str) -> None:
    profile = profile_of(DDIM, {**CARD, "sampler": sampler, "prediction_type": "epsilon"}, embedded=True)
    for base in (None, DDIM):
        written = scheduler_of(profile, base)
        assert written["_class_name"] == {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}[sampler]
        again = profile_of(written, {**CARD, "sampler": sampler}, embedded=True)
        assert dataclasses.replace(again, schedule=profile.schedule) == profile
        assert torch.equal(again.schedule.table, profile.schedule.table)


def test_what_else_a_schedulers_config_says_is_kept() -> None:
    profile = profile_of(DDIM, embedded=False)
    assert scheduler_of(profile, DDIM) == DDIM
    changed = scheduler_of(profile.with_zero_snr(True), DDIM)
    assert changed == DDIM | {"rescale_betas_zero_snr": True}


def test_a_schedule_that_diffusers_has_not_has_no_schedulers_config() -> None:
    flow = TrigFlow()
    with pytest.raises(InvalidModel, match="not made of betas"):
        scheduler_of(dataclasses.replace(profile_of(DDIM, embedded=False), schedule=flow, prediction=Trig()))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({**EulerDiscreteScheduler().config, "prediction_type": "score"}, "prediction_type is 'score'"),
        ({**DDIMScheduler().config, "beta_schedule": "sigmoid"}, "betas cannot be read: unknown kind"),
        ({**DDIMScheduler().config, "beta_start": "low"}, "betas cannot be read"),
        (
            {**FlowMatchHeunDiscreteScheduler().config, "_class_name": "FlowMatchHeunDiscreteScheduler"},
            "FlowMatchHeunDiscreteScheduler has no table of betas and is none of the rectified flows",
        ),
        ({}, r"\(unnamed\) has no table of betas"),
    ],
)
def test_what_we_cannot_sample_is_refused_in_words(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidModel, match=complaint):
        profile_of(config, embedded=False)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "gan"}, "in fewstep.json, the kind is 'gan'; it must be one of lcm, diffusion"),
        ({"steps": "4"}, "in fewstep.json, the steps are '4'"),
        ({"guidance_scale": None}, "guidance_scale is None"),
        ({"w_range": 9.0}, "w_range is 9.0; it must be two numbers"),
        ({"gamma": "much"}, "gamma is 'much'"),
    ],
)
def test_a_card_that_cannot_be_is_refused_in_words(changes: Any, complaint: str) -> None:
    with pytest.raises(InvalidModel, match=complaint):
        profile_of(LCM, CARD | changes, embedded=True)
