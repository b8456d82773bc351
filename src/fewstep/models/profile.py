"""The `SamplingProfile` in a model's files: the scheduler's config as diffusers writes it, and the card.

Each fact has one home. `scheduler_config.json` says the schedule, the prediction, the grid and the spacing;
`fewstep.json`, where there is one, the kind, the steps, the guidance and the sampler. The network says whether it
reads w.
"""

from __future__ import annotations

import dataclasses
import warnings

import torch

from fewstep.core.prediction import DISCRETE, PREDICTIONS, Flow
from fewstep.core.profile import Grid, SamplingProfile, Spacing
from fewstep.core.samplers import SAMPLERS, checked, few_step_schedulers
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import DiscreteSchedule
from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.files import Json
from fewstep.models import flow_scheduler
from fewstep.models.card import FILE, CardFacts
from fewstep.models.config import Config, number, text, whole


def profile_of(
    scheduler: Config, facts: CardFacts | None = None, *, embedded: bool, few_step: bool = False
) -> SamplingProfile:
    """From a scheduler's config, in which absent keys get diffusers' defaults, and what the card says.

    embedded  whether the network reads w
    few_step  whether something else than its scheduler says that a model without a card is a few-step model

    Raises `InvalidModel`; warns where a card's copy of a fact of the scheduler is another.
    """
    if flow_scheduler.is_flow(scheduler):
        profile = _of_flow(scheduler, embedded=embedded, few_step=few_step)
    else:
        profile = _of_table(scheduler, embedded=embedded, few_step=few_step)
    return _with_card(profile, facts) if facts else profile


def _of_flow(scheduler: Config, *, embedded: bool, few_step: bool) -> SamplingProfile:
    flow, sampler = flow_scheduler.flow_of(scheduler), flow_scheduler.sampler_of(scheduler)
    profile = SamplingProfile.default(
        "lcm" if few_step or SAMPLERS[sampler].few_step else "diffusion",
        flow,
        Flow(),
        spacing=flow_scheduler.spacing_of(scheduler, flow),
        embedded=embedded,
    )
    if not SAMPLERS[sampler].accepts(profile):
        return profile
    steps, scale = flow_scheduler.DEFAULTS.get(text(scheduler, "_class_name"), (profile.steps, profile.guidance.scale))
    guidance = dataclasses.replace(profile.guidance, scale=scale)
    return dataclasses.replace(profile, sampler=sampler, steps=steps, guidance=guidance)


def _of_table(scheduler: Config, *, embedded: bool, few_step: bool) -> SamplingProfile:
    prediction = text(scheduler, "prediction_type", "epsilon")
    if prediction not in DISCRETE:
        raise InvalidModel(f"the scheduler's prediction_type is {prediction!r}; fewstep knows {', '.join(DISCRETE)}")
    return SamplingProfile.default(
        "lcm" if few_step or scheduler.get("_class_name") in few_step_schedulers() else "diffusion",
        schedule_of(scheduler),
        PREDICTIONS[prediction],
        Grid(whole(scheduler, "original_inference_steps", 50), number(scheduler, "timestep_scaling", 10.0)),
        Spacing(
            text(scheduler, "timestep_spacing", "leading"),
            whole(scheduler, "steps_offset", 0),
            None if scheduler.get("set_alpha_to_one", True) else 0,
        ),
        embedded=embedded,
    )


def _with_card(profile: SamplingProfile, facts: CardFacts) -> SamplingProfile:
    """With what the card says, but for its copies of what the scheduler's config is the home of.

    Of a flow's grid no scheduler's config says anything: its home is the card.
    """
    own = facts.copy()
    if own.get("kind") == "diffusion":
        own.pop("sampler", None)  # a consistency model's, in every card
    try:
        stated = checked(profile.updated(own))
    except ValueError as error:
        raise InvalidModel(f"in {FILE}, {error}") from error
    _warn_of_copies(profile, stated, facts)
    return stated if profile.is_flow else dataclasses.replace(stated, grid=profile.grid)


def _warn_of_copies(profile: SamplingProfile, stated: SamplingProfile, facts: CardFacts) -> None:
    copies: list[tuple[str, object, object]] = [
        ("prediction_type", facts.get("prediction_type", profile.prediction.name), profile.prediction.name)
    ]
    if stated.kind == "lcm" and not profile.is_flow:
        names = ("original_inference_steps", "timestep_scaling")
        copies += [(name, getattr(stated.grid, name), getattr(profile.grid, name)) for name in names]
    for name, copy, value in copies:
        if copy != value:
            warnings.warn(
                f"{FILE} says {name} = {copy!r} and scheduler_config.json says {value!r}, which is what counts: "
                "correct the one that is wrong",
                FewstepWarning,
                stacklevel=5,
            )


def schedule_of(scheduler: Config) -> Schedule:
    """The process of a scheduler's config, a table of betas or a flow; raises `InvalidModel`."""
    if flow_scheduler.is_flow(scheduler):
        return flow_scheduler.flow_of(scheduler)
    if scheduler.get("trained_betas") is not None:
        betas = torch.tensor(scheduler["trained_betas"], dtype=torch.float64)
        return DiscreteSchedule.from_alphas_cumprod(torch.cumprod(1.0 - betas, dim=0))
    if "beta_schedule" not in scheduler:
        raise InvalidModel(
            f"the scheduler {scheduler.get('_class_name', '(unnamed)')} has no table of betas and is none of the "
            f"rectified flows that fewstep reads, {', '.join(flow_scheduler.SAMPLER_OF)}"
        )
    try:
        return DiscreteSchedule.from_betas(
            kind=text(scheduler, "beta_schedule"),
            beta_start=number(scheduler, "beta_start"),
            beta_end=number(scheduler, "beta_end"),
            num_train_timesteps=whole(scheduler, "num_train_timesteps"),
            rescale_zero_terminal_snr=bool(scheduler.get("rescale_betas_zero_snr")),
        )
    except ValueError as error:
        raise InvalidModel(f"the scheduler's betas cannot be read: {error}") from error


def scheduler_of(profile: SamplingProfile, base: Config | None = None) -> dict[str, Json]:
    """The scheduler's config that says the same: that of its sampler for a consistency model.

    base  the config that the model began with, of which all else is kept; None where it began as one file

    Raises `InvalidModel` without one for a schedule that is neither a table of betas nor a rectified flow.
    """
    if profile.is_flow:
        return flow_scheduler.config_of(profile, base)
    config = _ddim(profile) if base is None else dict(base)
    config["prediction_type"] = profile.prediction.name
    if base is not None and profile.schedule.to_config() != schedule_of(base).to_config():
        config["rescale_betas_zero_snr"] = profile.zero_snr
    if profile.kind == "lcm":
        config |= {"_class_name": SAMPLERS[profile.sampler].scheduler, **dataclasses.asdict(profile.grid)}
    return config


def _ddim(profile: SamplingProfile) -> dict[str, Json]:
    betas = profile.schedule.to_config()
    if "kind" not in betas:
        raise InvalidModel("this schedule is not made of betas, and diffusers' schedulers know no other")
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": betas["num_train_timesteps"],
        "beta_start": betas["beta_start"],
        "beta_end": betas["beta_end"],
        "beta_schedule": betas["kind"],
        "rescale_betas_zero_snr": betas["rescale_zero_terminal_snr"],
        "clip_sample": False,
        "set_alpha_to_one": profile.spacing.final_timestep is None,
        "steps_offset": profile.spacing.offset,
        "timestep_spacing": profile.spacing.kind,
    }
