"""A flow scheduler's config means to us what it means to diffusers, and what we write opens there again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    SCMScheduler,
)
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

import flow_world
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS
from fewstep.errors import InvalidModel
from fewstep.models.profile import profile_of, scheduler_of

SCHEDULERS: dict[str, Any] = {
    "euler": FlowMatchEulerDiscreteScheduler,
    "flow_lcm": FlowMatchLCMScheduler,
    "flow_map": FlowMapEulerDiscreteScheduler,
}
DYNAMIC: dict[str, Any] = {"use_dynamic_shifting": True, "base_shift": 0.6, "max_shift": 1.3, "shift": 3.0}


def config(scheduler: Any) -> dict[str, Any]:
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_what_is_written_opens_in_diffusers_at_the_same_times(name: str, shift: float) -> None:
    before = config(SCHEDULERS[name](shift=shift))
    profile = profile_of(before, embedded=False)
    assert (profile.sampler, profile.kind) == (name, "diffusion" if name == "euler" else "lcm")
    for base in (before, None):
        written = scheduler_of(profile, base)
        assert profile_of(written, embedded=False) == profile
        theirs = SCHEDULERS[name].from_config(written)
        theirs.set_timesteps(4)
        times = SAMPLERS[name].times(profile, 4)
        torch.testing.assert_close(theirs.timesteps.float(), times.float(), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_sana_s_scheduler_is_a_flow_whose_samples_are_dpm_solver_s(steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction", final_sigmas_type="zero"
    )
    profile = profile_of(config(scheduler), embedded=False)
    assert (profile.sampler, profile.kind, profile.steps, profile.guidance.scale) == ("dpm++", "diffusion", 20, 4.5)
    assert scheduler_of(profile, config(scheduler)) == config(scheduler)
    assert scheduler_of(profile.as_few_step({}), config(scheduler))["shift"] == 3.0
    scheduler.set_timesteps(steps)
    _, samples = flow_world.follow(scheduler, 1.0)
    times, path = flow_world.walk(profile, "dpm++", steps, 1.0)
    torch.testing.assert_close(torch.tensor(times) / 1000, scheduler.sigmas[:-1], rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(path, samples, strict=True):
        torch.testing.assert_close(ours.x_t, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_angles_of_sana_sprint_are_times_of_a_flow(steps: int) -> None:
    """tan t = sigma / alpha."""
    scheduler = SCMScheduler()
    profile = profile_of(config(scheduler), embedded=True)
    assert (profile.sampler, profile.kind, profile.steps, profile.guidance.scale) == ("flow_lcm", "lcm", 2, 4.5)
    assert scheduler_of(profile, config(scheduler)) == config(scheduler)
    scheduler.set_timesteps(steps, intermediate_timesteps=1.3 if steps == 2 else None)
    times = SAMPLERS["flow_lcm"].times(profile, steps)
    angles = torch.atan2(profile.schedule.sigma(times), profile.schedule.alpha(times))
    torch.testing.assert_close(angles.float(), scheduler.timesteps[:-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_a_shift_by_size_is_read_and_written(kind: str) -> None:
    before = config(FlowMatchEulerDiscreteScheduler(**DYNAMIC, time_shift_type=kind, shift_terminal=0.02))
    profile = profile_of(before, embedded=False)
    for base in (before, None):
        written = scheduler_of(profile, base)
        assert profile_of(written, embedded=False) == profile
        theirs = FlowMatchEulerDiscreteScheduler.from_config(written)
        theirs.set_timesteps(5, mu=calculate_shift(1024, base_shift=0.6, max_shift=1.3))
        times = SAMPLERS["euler"].times(profile.for_size(1024), 5)
        torch.testing.assert_close(theirs.timesteps, times.float(), rtol=1e-5, atol=1e-3)


def test_a_teacher_s_config_becomes_its_student_s() -> None:
    """All else of it is kept; a flow map whose shift depends on the size takes the same steps as Euler's scheduler."""
    base = config(FlowMatchEulerDiscreteScheduler(shift=3.0))
    teacher = profile_of(base, embedded=False)

    def written(teacher: SamplingProfile, base: Any, sampler: str) -> dict[str, Any]:
        return dict(scheduler_of(teacher.as_few_step({"sampler": sampler}), base))

    kept = {key: value for key, value in base.items() if key != "stochastic_sampling"}  # unknown to LCM's scheduler
    assert written(teacher, base, "flow_lcm") == kept | {"_class_name": "FlowMatchLCMScheduler"}
    assert written(teacher, base, "flow_map") == {
        "_class_name": "FlowMapEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 3.0,
    }
    dynamic = config(FlowMatchEulerDiscreteScheduler(**DYNAMIC))
    assert written(profile_of(dynamic, embedded=False), dynamic, "flow_map") == dynamic


def test_a_card_says_what_a_flow_s_scheduler_cannot() -> None:
    base = config(FlowMatchEulerDiscreteScheduler(shift=3.0))
    profile = profile_of(
        base, {"kind": "lcm", "steps": 2, "sampler": "flow_map", "original_inference_steps": 20}, embedded=True
    )
    assert (profile.kind, profile.steps, profile.sampler) == ("lcm", 2, "flow_map")
    assert profile.grid.original_inference_steps == 20
    with pytest.raises(InvalidModel, match="kind 'lcm' is 'tcd'; it must be one of flow_lcm, flow_map"):
        profile_of(base, {"kind": "lcm", "sampler": "tcd"}, embedded=False)


@pytest.mark.parametrize(
    ("scheduler", "changes", "complaint"),
    [
        ("euler", {"shift": 0.0}, "shift cannot be read: the shift of a flow must be above 0; got 0.0"),
        ("euler", {"use_karras_sigmas": True}, "sets use_karras_sigmas, and fewstep spaces the times of a flow"),
        ("euler", {"invert_sigmas": True}, "sets invert_sigmas"),
        ("euler", {"prediction_type": "epsilon"}, "prediction_type 'epsilon'; a rectified flow predicts its velocity"),
        ("euler", {"shift_terminal": 1.5}, "shift_terminal is 1.5; it must lie between 0 and 1"),
        ("euler", DYNAMIC | {"base_image_seq_len": 5000}, "5000 must lie below max_image_seq_len, 4096"),
        ("flow_map", {"use_dynamic_shifting": True}, "knows one shift for all sizes"),
    ],
)
def test_what_cannot_be_is_refused_in_words(scheduler: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidModel, match=complaint):
        profile_of(config(SCHEDULERS[scheduler]()) | changes, embedded=False)
