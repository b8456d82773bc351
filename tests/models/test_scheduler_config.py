"""A scheduler's config means to us what it means to diffusers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

from fewstep.errors import InvalidModel
from fewstep.models.scheduler_config import SchedulerSettings


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("rescale", [False, True])
def test_the_schedule_is_diffusers_own(kind: str, rescale: bool) -> None:
    scheduler = DDIMScheduler(beta_schedule=kind, beta_start=0.001, beta_end=0.01, rescale_betas_zero_snr=rescale)
    settings = SchedulerSettings.from_config(scheduler.config)
    torch.testing.assert_close(settings.schedule.alphas_cumprod.float(), scheduler.alphas_cumprod, atol=2e-6, rtol=2e-4)


def test_trained_betas_are_read() -> None:
    scheduler = DDIMScheduler(trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3)
    settings = SchedulerSettings.from_config(scheduler.config)
    torch.testing.assert_close(settings.schedule.alphas_cumprod.float(), scheduler.alphas_cumprod)


def test_the_facts_of_a_consistency_model() -> None:
    scheduler = LCMScheduler(prediction_type="v_prediction", original_inference_steps=100, timestep_scaling=7.0)
    settings = SchedulerSettings.from_config(scheduler.config | {"_class_name": "LCMScheduler"})
    facts = (settings.consistency, settings.prediction_type, settings.original_inference_steps)
    assert facts == (True, "v_prediction", 100)
    assert settings.timestep_scaling == 7.0


def test_the_facts_of_stable_diffusion() -> None:
    scheduler = DDIMScheduler(set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")
    settings = SchedulerSettings.from_config(scheduler.config)
    assert (settings.spacing, settings.offset, settings.final_timestep) == ("leading", 1, 0)
    assert not settings.consistency
    assert SchedulerSettings.from_config(DDIMScheduler().config).final_timestep == -1


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({**EulerDiscreteScheduler().config, "prediction_type": "score"}, "prediction_type is 'score'"),
        ({**DDIMScheduler().config, "beta_schedule": "sigmoid"}, "betas cannot be read: unknown kind"),
        ({**DDIMScheduler().config, "beta_start": "low"}, "betas cannot be read"),
        ({**FlowMatchEulerDiscreteScheduler().config, "_class_name": "Flow"}, "the scheduler Flow has no table"),
        ({}, r"\(unnamed\) has no table of betas"),
    ],
)
def test_what_we_cannot_sample_is_refused_in_words(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidModel, match=complaint):
        SchedulerSettings.from_config(config)
