"""What a model can be asked for, as controls: name, kind, range and default, for a page to build itself from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.plan import DEFAULT_STRENGTH, REFINE_STRENGTH, samplers_of
from fewstep.pipelines.request import MAX_SIDE, MAX_UPSCALE
from fewstep.server.protocol import MAX_PROMPT, MAX_STEPS

MAX_FEW_STEPS = 8  # of a consistency model: more bring nothing
MASKED_STRENGTH = 0.9  # where a page starts once there is a mask: what lies under it is to go
MAX_SHOWN_SEED = 2**32 - 1

Control = dict[str, Any]


def controls(model: LatentModel, models: Collection[str] = ()) -> list[Control]:
    """The `Parameters` that this model listens to; `advanced` are those that few people look for.

    models  the names of all that the server has, this one's among them
    """
    high = MAX_FEW_STEPS if model.kind == "lcm" else MAX_STEPS
    return [
        {"name": "model", "kind": "choice", "choices": list(models) or [model.name], "default": model.name},
        {"name": "prompt", "kind": "text", "default": "", "maximum_length": MAX_PROMPT},
        {"name": "steps", **_slider(1, high, 1, model.profile.steps)},
        *_guidance(model),
        {"name": "strength", **_slider(0.05, 1, 0.01, DEFAULT_STRENGTH), "masked_default": MASKED_STRENGTH},
        {"name": "seed", "kind": "seed", "minimum": 0, "maximum": MAX_SHOWN_SEED, "default": 0},
        *_sides(model),
        *_weights(model),
        *({**each, "advanced": True} for each in _advanced(model)),
    ]


def _slider(minimum: float, maximum: float, step: float, default: float) -> Control:
    return {"kind": "slider", "minimum": minimum, "maximum": maximum, "step": step, "default": default}


def _guidance(model: LatentModel) -> list[Control]:
    """How closely to follow the words, and what to lead away from; that is an advanced wish where it has no effect."""
    low, high = model.profile.guidance_range
    scale = model.profile.guidance.scale
    negative = {"name": "negative_prompt", "kind": "text", "default": "", "has_effect": not model.embeds_guidance}
    return [
        {"name": "guidance_scale", **_slider(low, min(high, 15.0), 0.1, scale)},
        {**negative, "advanced": model.embeds_guidance or scale <= 1.0},
    ]


def _sides(model: LatentModel) -> list[Control]:
    unit = model.traits.pixels_per_latent
    side = {"kind": "number", "minimum": unit, "maximum": MAX_SIDE, "step": unit}
    height, width = model.traits.default_size
    return [{"name": "width", **side, "default": width}, {"name": "height", **side, "default": height}]


def _weights(model: LatentModel) -> list[Control]:
    """Of adapters, and of ControlNets, whose order is that of the frames for them."""
    made: list[Control] = []
    if model.loras is not None:
        weights = dict(zip(model.loras.names, model.loras.weights, strict=True))
        made.append({"name": "loras", "kind": "weights", "minimum": -1, "maximum": 2, "step": 0.05, "default": weights})
    if model.steered_by:
        scales = dict.fromkeys(model.steered_by, 1.0)
        bounds = {"minimum": 0, "maximum": 2, "step": 0.05}
        made.append({"name": "control_scales", "kind": "weights", **bounds, "default": scales, "pictures": True})
    return made


def _advanced(model: LatentModel) -> list[Control]:
    samplers = samplers_of(model)
    return [
        {"name": "upscale", **_slider(1, MAX_UPSCALE, 0.25, 1)},
        {"name": "refine_strength", **_slider(0.05, 1, 0.05, REFINE_STRENGTH), "needs": "upscale"},
        {"name": "refine_steps", **_number(1, MAX_STEPS), "needs": "upscale"},
        {"name": "tile", "kind": "switch", "default": False},
        {"name": "variation", **_slider(0, 1, 0.05, 0)},
        {"name": "variation_seed", **_number(0, MAX_SHOWN_SEED), "needs": "variation"},
        {"name": "sampler", "kind": "choice", "choices": list(samplers), "default": samplers[0]},
        {"name": "timesteps", "kind": "times", "default": None},
    ]


def _number(minimum: int, maximum: int) -> Control:
    """One that may be left empty."""
    return {"kind": "number", "minimum": minimum, "maximum": maximum, "step": 1, "default": None}
