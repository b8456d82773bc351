"""What a model can be asked for, as controls: name, kind, range, default and help, for a page to build itself from."""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import TypedDict

from fewstep.core.samplers import samplers_of
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.field import Field
from fewstep.pipelines.fields import FIELDS
from fewstep.server.fields import MAX_STEPS

MAX_FEW_STEPS = 8  # of a consistency model: more bring nothing
MASKED_STRENGTH = 0.9  # where a page starts once there is a mask: what lies under it is to go
MAX_SHOWN_SEED = 2**32 - 1
# the first that people look for, in this order; all others of the table follow behind "More"
FIRST = ("prompt", "steps", "guidance_scale", "negative_prompt", "strength", "seed", "width", "height")


class Control(TypedDict, total=False):
    """`name` and `kind` are always there, the rest by the kind; `minimum`, `maximum` and `step` of what is a number."""

    name: str
    kind: str
    title: str
    hint: str
    needs: str
    minimum: int | float  # 1 travels as 1
    maximum: int | float
    step: int | float
    maximum_length: int | None
    choices: list[str]
    default: bool | int | float | str | dict[str, float] | None
    masked_default: float
    has_effect: bool
    pictures: bool
    advanced: bool


def controls(model: LatentModel, models: Collection[str] = ()) -> list[Control]:
    """The `Parameters` that this model listens to; `advanced` are those that few people look for.

    models  the names of all that the server has, this one's among them
    """
    own = _of_model(model)
    more = [name for name, field in FIELDS.items() if field.title and name not in FIRST]
    names = list(models) or [model.name]
    return [
        {"name": "model", "kind": "choice", "title": "Model", "choices": names, "default": model.name},
        *(_control(FIELDS[name]) | own.get(name, {}) for name in FIRST),
        *_weights(model),
        *(_control(FIELDS[name]) | own.get(name, {}) | {"advanced": True} for name in more),
    ]


def _control(field: Field) -> Control:
    """A field as any model has it."""
    named: Control = {"name": field.name, "title": field.title, "hint": field.hint}
    if field.needs in FIELDS and FIELDS[field.needs].title:
        named["needs"] = field.needs
    if field.slider is not None:
        low, high, step = field.slider
        default = field.off if field.usual is None else field.usual
        return named | {"kind": "slider", "minimum": low, "maximum": high, "step": step, "default": default}
    match field.type:
        case "text":
            return named | {"kind": "text", "default": "", "maximum_length": field.served}
        case "switch":
            return named | {"kind": "switch", "default": False}
        case "whole" | "number":  # may be left empty
            most = min(MAX_SHOWN_SEED, field.high if field.served is None else field.served)
            return named | {"kind": "number", "minimum": field.low, "maximum": most, "step": 1, "default": None}
    return named | {"kind": field.type, "default": None}


def _of_model(model: LatentModel) -> dict[str, Control]:
    """What this model has otherwise, by the fields' names."""
    profile, samplers, unit = model.profile, samplers_of(model.profile), model.traits.pixels_per_latent
    low, high = profile.guidance_range
    height, width = model.traits.default_size
    side: Control = {"minimum": unit, "step": unit}
    inside = model.profile.guidance.embedded
    return {
        "steps": {"maximum": MAX_FEW_STEPS if model.profile.kind == "lcm" else MAX_STEPS, "default": profile.steps},
        "guidance_scale": {"minimum": low, "maximum": min(high, 15.0), "default": profile.guidance.scale},
        "negative_prompt": {"has_effect": not inside, "advanced": inside or profile.guidance.scale <= 1.0},
        "strength": {"masked_default": MASKED_STRENGTH},
        "seed": {"kind": "seed", "default": 0},
        "width": side | {"default": width},
        "height": side | {"default": height},
        "sampler": {"choices": list(samplers), "default": samplers[0]},
        "precision": {"choices": list(model.precisions), "default": model.precisions[0]},
        "decoder": {"choices": list(model.decoders), "default": model.decoders[0]},
    }


def _weights(model: LatentModel) -> list[Control]:
    """Of adapters, and of ControlNets, whose order is that of the frames for them."""
    made: list[Control] = []
    if model.loras is not None:
        weights = dict(zip(model.loras.names, model.loras.weights, strict=True))
        made.append(_control(FIELDS["loras"]) | {"kind": "weights", "default": weights})
    if model.steered_by:
        scales = dict.fromkeys(model.steered_by, 1.0)
        own: Control = {"name": "control_scales", "kind": "weights", "default": scales, "pictures": True}
        made.append(_control(FIELDS["controls"]) | own)
    return made
