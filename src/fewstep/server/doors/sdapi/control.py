"""ControlNets as A1111's clients send them, in `alwayson_scripts.controlnet.args`: a list of units, each a model, the
picture that it reads, and its weight.

A unit that cannot be followed at all is refused, as its picture would be another one: a model that is not here, a
preprocessor (this server has none: send the edges themselves, with the module "none"), a picture that is missing. What
of a unit is followed in another way is named in `info.warnings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from PIL.Image import Image
from pydantic import ConfigDict, Field, JsonValue, ValidationError
from typing_extensions import TypedDict

from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.request import Control
from fewstep.server.doors.sdapi.fields import ImageRequest
from fewstep.server.doors.sdapi.pictures import picture
from fewstep.server.nulls import NullIsAbsent
from fewstep.server.wording import in_words

SCRIPT = "controlnet"  # whatever its case
MAX_UNITS = 16
CROPS = ("Crop and Resize", "Scale to Fit (Inner Fit)", 1)  # what is done here, as for a picture to start from
NO_MODEL = ("", "none")
# Fields of which nothing becomes, with the values, besides none and the empty ones, at which they ask for nothing.
ASKS_NOTHING: dict[str, tuple[str | int, ...]] = {
    "guidance_end": (1,),
    "control_mode": ("Balanced", 0),
    "hr_option": ("Both", "both", 0),
    "input_mode": ("simple",),
    "union_control_type": ("Unknown",),
}
SAME_SHAPE = 0.02  # of a difference in aspect, from rounded sizes
EMPTY: tuple[JsonValue, ...] = (0, "", False, [], {})
WITHOUT_MEANING = (  # a preprocessor's own, or A1111's memory
    "low_vram",
    "processor_res",
    "threshold_a",
    "threshold_b",
    "pixel_perfect",
    "save_detected_map",
    "is_ui",
)


class Layers(TypedDict, total=False):
    """A picture, and beside it what is not supported here."""

    image: JsonValue
    mask: JsonValue


class Unit(NullIsAbsent):
    """One ControlNet; `image` and `input_image` are one field, in base64, or {"image": ..., "mask": ...}."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    enabled: bool = True
    model: str = Field(default="", max_length=200)
    module: str = Field(default="none", max_length=200)
    image: str | Layers = ""
    input_image: str | Layers = ""
    weight: float = Field(default=1.0, ge=0, le=2)
    resize_mode: str | int = 1


async def controls(
    body: ImageRequest, model: LatentModel, over: Image | None = None
) -> tuple[dict[str, Control] | None, list[str]]:
    """What steers a request by its scripts, None where no unit does, and what of them was not kept.

    over  the picture to start from, which units without one read. Raises `InvalidRequest`.
    """
    found: dict[str, Control] = {}
    warnings: list[str] = []
    for name, script in body.alwayson_scripts.items():
        args = script.get("args") if isinstance(script, Mapping) else script
        if name.strip().lower() != SCRIPT:
            if args:
                warnings.append(f"alwayson_scripts.{name[:40]} is not supported and was ignored")
            continue
        for place, unit in _units(name, args):
            if unit.enabled:
                _check_module(place, unit)
                net = _named(place, unit, model, found)
                image = await _picture(place, unit, over)
                found[net] = Control(image, unit.weight)
                warnings += _changed(place, unit, image, _size(body, model))
    return found or None, warnings


def _units(name: str, args: JsonValue) -> list[tuple[str, Unit]]:
    """Each with its place, for messages."""
    if args is None:
        return []
    if not isinstance(args, Sequence) or isinstance(args, str) or len(args) > MAX_UNITS:
        raise InvalidRequest(f"alwayson_scripts.{name[:40]}.args must be a list of units, at most {MAX_UNITS}")
    places = [f"ControlNet unit {index}" for index in range(len(args))]
    return [(place, _unit(place, given)) for place, given in zip(places, args, strict=True)]


def _unit(place: str, given: JsonValue) -> Unit:
    try:
        return Unit.model_validate({"enabled": False} if given is None else given)
    except ValidationError as error:
        raise InvalidRequest(f"{place}: {in_words(error)}") from error


def _named(place: str, unit: Unit, model: LatentModel, taken: Mapping[str, Control]) -> str:
    """The net that a unit means: by its name, with a hash or without. One that is loaded twice reads two pictures."""
    here = f"here are {', '.join(model.steered_by)}" if model.steered_by else f"{model.name} has none loaded"
    name = re.sub(r"\s*\[[0-9a-fA-F]+\]$", "", unit.model.strip())
    if name.lower() in NO_MODEL:
        raise InvalidRequest(f"{place} names no model; {here}")
    again = re.compile(re.escape(name) + r"(-\d+)?")
    same = [each for each in model.steered_by if each == name or again.fullmatch(each)]
    if not same:
        raise InvalidRequest(f"{place}: there is no ControlNet {name[:60]!r} here; {here}")
    if not (free := [each for each in same if each not in taken]):
        raise InvalidRequest(f"{place}: {name!r} reads one picture only; load it once more for a second")
    return free[0]


def _check_module(place: str, unit: Unit) -> None:
    if unit.module.strip().lower() not in NO_MODEL:
        raise InvalidRequest(
            f"{place}: the preprocessor {unit.module[:40]!r} is not here; send what it would make of the picture, "
            "with the module 'none'"
        )


async def _picture(place: str, unit: Unit, over: Image | None) -> Image:
    given = unit.image or unit.input_image
    data = given if isinstance(given, str) else given.get("image")
    if data:
        return await picture(str(data), f"{place}: image")
    if over is None:
        raise InvalidRequest(f"{place} has no picture to read; give its image")
    return over


def _size(body: ImageRequest, model: LatentModel) -> tuple[int, int]:
    """(width, height) of what is generated."""
    height, width = model.traits.default_size
    return body.width or width, body.height or height


def _changed(place: str, unit: Unit, image: Image, size: tuple[int, int]) -> list[str]:
    """What a unit asks for and is done in another way."""
    extra = {name: value for name, value in (unit.model_extra or {}).items() if name not in WITHOUT_MEANING}
    asked = [name for name, value in extra.items() if value not in ASKS_NOTHING.get(name, EMPTY)]
    warnings = [f"{place}: {name[:40]} is not supported and was ignored" for name in asked[:20]]
    (width, height), (across, down) = size, image.size
    if unit.resize_mode not in CROPS and abs(width * down - height * across) > SAME_SHAPE * height * across:
        warnings.append(f"{place}: its picture has another shape; it was scaled and cropped, not {unit.resize_mode!r}")
    if any(isinstance(given, Mapping) and given.get("mask") for given in (unit.image, unit.input_image)):
        warnings.append(f"{place}: mask is not supported and was ignored")
    return warnings
