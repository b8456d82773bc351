"""diffusers' schedulers of rectified flows: what their configs mean, and a config that means the same.

FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler and FlowMapEulerDiscreteScheduler have no table of betas: sigma
is the time itself, and a shift, one number or a function of the picture's size, says where N times lie. SANA's is
DPMSolverMultistepScheduler, told to `use_flow_sigmas`. SANA-Sprint's is SCMScheduler, which counts in TrigFlow's
angles: the same process, each sample divided by its length (2503.09641, sec. 3.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from fewstep.core.prediction import Flow, Trig
from fewstep.core.profile import SamplingProfile, Spacing
from fewstep.core.samplers import SAMPLERS
from fewstep.core.schedule_config import SizeShift
from fewstep.core.schedules import RectifiedFlow, ShiftBySize
from fewstep.errors import InvalidModel
from fewstep.files import Json
from fewstep.models.config import Config, number, text, whole

EULER, LCM, MAP = "FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "FlowMapEulerDiscreteScheduler"
DPM, SCM = "DPMSolverMultistepScheduler", "SCMScheduler"
SAMPLER_OF: Mapping[str, str] = {EULER: "euler", LCM: "flow_lcm", MAP: "flow_map", SCM: "flow_lcm", DPM: "dpm++"}
DEFAULTS: Mapping[str, tuple[int, float]] = {DPM: (20, 4.5), SCM: (2, 4.5)}  # steps and guidance scale, of SANA's
OTHER_TIMES = ("invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "scale_factors")


def is_flow(scheduler: Config) -> bool:
    """Whether a scheduler's config is one of these."""
    name = scheduler.get("_class_name")
    return bool(scheduler.get("use_flow_sigmas")) if name == DPM else name in SAMPLER_OF


def sampler_of(scheduler: Config) -> str:
    """The sampler that does what the scheduler does; drawing noise at every step is the consistency sampler's way."""
    return "flow_lcm" if scheduler.get("stochastic_sampling") else SAMPLER_OF[text(scheduler, "_class_name")]


def flow_of(scheduler: Config) -> RectifiedFlow:
    """The process, with its shift.

    Raises `InvalidModel` for another prediction than the flow's, for times that are laid out in ways that fewstep does
    not know, and for shifts that cannot be.
    """
    name = text(scheduler, "_class_name")
    predicts = Trig.name if name == SCM else Flow.name
    if (prediction := text(scheduler, "prediction_type", predicts)) != predicts:
        raise InvalidModel(
            f"the scheduler is a {name} and its prediction_type {prediction!r}; a rectified flow predicts its "
            f"velocity ({predicts}): leave prediction_type out"
        )
    if odd := [key for key in OTHER_TIMES if scheduler.get(key)]:
        raise InvalidModel(
            f"the scheduler, a {name}, sets {odd[0]}, and fewstep spaces the times of a flow evenly or by a shift: "
            "leave it out"
        )
    if name == MAP and scheduler.get("use_dynamic_shifting"):
        raise InvalidModel(f"a {name} knows one shift for all sizes: leave use_dynamic_shifting out")
    by_size = _shift_by_size(scheduler) if scheduler.get("use_dynamic_shifting") else None
    try:
        return RectifiedFlow(
            number(scheduler, "flow_shift" if name == DPM else "shift", 1.0),
            None if by_size is None else ShiftBySize(**by_size),
            float(whole(scheduler, "num_train_timesteps", 1000)),
        )
    except ValueError as error:
        raise InvalidModel(f"the scheduler's shift cannot be read: {error}") from error


def _shift_by_size(scheduler: Config) -> SizeShift:
    return {
        "base_shift": number(scheduler, "base_shift", 0.5),
        "max_shift": number(scheduler, "max_shift", 1.15),
        "base_image_seq_len": whole(scheduler, "base_image_seq_len", 256),
        "max_image_seq_len": whole(scheduler, "max_image_seq_len", 4096),
        "time_shift_type": text(scheduler, "time_shift_type", "exponential"),
    }


def spacing_of(scheduler: Config, flow: RectifiedFlow) -> Spacing:
    """How the scheduler's `set_timesteps(N)` lays out N times.

    From sigma 1 down to the scheduler's sigma_min, evenly; then it shifts them. With one shift for all sizes sigma_min,
    1 / T, has been shifted before, so that diffusers shifts it twice. A flow map's go from 1 to 1 / N, and those of
    DPM-Solver++ from 1 - 1 / T.

    Raises `InvalidModel` for a `shift_terminal` that is no sigma.
    """
    if scheduler.get("_class_name") == MAP:
        return Spacing("trailing")
    if scheduler.get("_class_name") == SCM:
        return Spacing("angles")
    if scheduler.get("_class_name") == DPM:
        return Spacing("trailing", first=1.0 - 1.0 / flow.time_scale)
    first = 1.0 / flow.time_scale
    least = first if flow.by_size is not None else float(flow.sigma(flow.at(first)))
    terminal = number(scheduler, "shift_terminal") if scheduler.get("shift_terminal") else None
    if terminal is not None and not 0 < terminal < 1:
        raise InvalidModel(f"the scheduler's shift_terminal is {terminal:g}; it must lie between 0 and 1")
    return Spacing("linspace", least=least, terminal=terminal)


def config_of(profile: SamplingProfile, base: Config | None) -> dict[str, Json]:
    """The scheduler's config that says the same.

    base  the config of a flow that the model began with, of which all else is kept; None where there is none

    A flow map whose shift depends on the size is written as the Euler scheduler, whose steps are the same: diffusers'
    own scheduler of flow maps knows one shift.
    """
    flow = profile.schedule
    assert isinstance(flow, RectifiedFlow)
    if base is not None and base.get("_class_name") in DEFAULTS:
        if sampler_of(base) == profile.sampler:
            return dict(base)
        base = None
    config = {} if base is None else dict(base)
    config |= {"num_train_timesteps": int(flow.time_scale), "shift": flow.shift}
    own = SAMPLERS[profile.sampler].scheduler if profile.kind == "lcm" else config.get("_class_name", EULER)
    if own == MAP and flow.by_size is None:
        return {"_class_name": MAP, "num_train_timesteps": int(flow.time_scale), "shift": flow.shift}
    config["_class_name"] = EULER if own == MAP else own
    if base is None:
        config |= {"use_dynamic_shifting": flow.by_size is not None, "shift_terminal": profile.spacing.terminal}
        config |= {} if flow.by_size is None else dataclasses.asdict(flow.by_size)
    if own == LCM:
        config.pop("stochastic_sampling", None)
    return config
