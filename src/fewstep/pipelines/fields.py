"""The table of everything that can be asked of a picture: one row a field, from which every door is made.

The command line's options, the checks of a `Request`, the record in a picture, what the server takes and the page's
controls read their names, types, ranges, defaults and help here. A new field costs a row of `FIELDS`, a line of
`Settings` and one of `Given`, all in this file, and the line that uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from fewstep.core.profile import MAX_GUIDANCE
from fewstep.core.samplers import SAMPLERS
from fewstep.models.precisions import DECODERS, PRECISIONS
from fewstep.pipelines.field import Field

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.core.samplers.base import Step

    Picture = Image | str | Path

MAX_SEED = 2**63 - 1
MAX_SIDE = 4_096
DEFAULT_STRENGTH, REFINE_STRENGTH = 0.5, 0.4
WHAT = "What to paint"

T = TypeVar("T")
_ROWS = (
    Field(
        "prompt",
        "text",
        "a prompt",
        "What to paint, in words; (these) or (these:1.3) count more, [these] less; - reads standard input.",
        high=10_000,
        served=2_000,
        panel="",
        title="Prompt",
        hint="What to paint, in words.",
    ),
    Field(
        "num_images",
        "whole",
        "the number of pictures",
        "How many, with the seeds SEED, SEED+1, …",
        default="1",
        low=1,
        high=1_000,
        served=16,
        flags=("--num-images", "-n"),
        panel="",
    ),
    Field("image", "picture", "the picture", "A picture to start from.", panel=WHAT),
    Field(
        "strength",
        "number",
        "the strength",
        "How much of it is painted anew, {range}.",
        default="{usual:g}",
        high=1,
        zero="leaves the picture as it is",
        usual=DEFAULT_STRENGTH,
        needs="image",
        panel=WHAT,
        title="Strength",
        hint="How freely the picture may depart from yours.",
        slider=(0.05, 1, 0.01),
    ),
    Field(
        "mask",
        "picture",
        "the mask",
        "Where it is painted anew: white, or what is opaque where the rest is transparent.",
        default="everywhere",
        needs="image",
        panel=WHAT,
    ),
    Field(
        "negative_prompt",
        "text",
        "a prompt",
        "What to avoid; only for models with real guidance.",
        high=10_000,
        served=2_000,
        panel=WHAT,
        title="Not in the picture",
    ),
    Field(
        "variation",
        "number",
        "the variation",
        "From {range}: pictures near to that of SEED, as near as this is small; -n for several.",
        high=1,
        off=0,
        panel=WHAT,
        title="Variation",
        hint="How far from the seed's picture to another one's.",
        slider=(0, 1, 0.05),
    ),
    Field(
        "variation_seed",
        "whole",
        "the variation seed",
        "Which of the near ones, and those after it.",
        default="SEED+1",
        high=MAX_SEED,
        needs="variation",
        panel=WHAT,
        title="Towards the seed",
        hint="Empty: the one after the seed.",
    ),
    Field(
        "controls",
        "pictures",
        "the scale of a control",
        "Pictures that ControlNets read, by the networks' names, and how far each is followed.",
        high=2,
        served=16,
        usual=1,
        panel=WHAT,
        hint="How far its picture is followed.",
        slider=(0, 2, 0.05),
    ),
    Field(
        "steps",
        "whole",
        "the number of steps",
        "Network calls along the way.",
        default="the model's; 4 for the starter",
        low=1,
        high=1_000,
        served=50,
        title="Steps",
        hint="More steps: finer, slower.",
        slider=(1, 50, 1),
    ),
    Field(
        "seed",
        "whole",
        "the seed",
        "The same seed gives the same picture.",
        default="a random one",
        high=MAX_SEED,
        title="Seed",
    ),
    Field(
        "guidance_scale",
        "number",
        "the guidance scale",
        "How closely to follow the words.",
        default="the model's",
        low=1,
        high=MAX_GUIDANCE,
        title="Guidance",
        hint="How closely the words are followed.",
        slider=(1, 15, 0.1),
    ),
    Field(
        "sampler",
        "choice",
        "sampler",
        "{choices}; those that a model takes are in `fewstep inspect MODEL`.",
        default="the model's",
        choices=SAMPLERS,
        title="Sampler",
    ),
    Field(
        "precision",
        "choice",
        "precision",
        "What the network and the decoder compute in: {choices}.",
        default="as the model is loaded: float32 on a CPU",
        choices=PRECISIONS,
        title="Precision",
        hint="Other than float32: quicker, and not quite the same picture.",
    ),
    Field(
        "decoder",
        "choice",
        "decoder",
        "{choices}: the model's own, or the much faster and a little rougher one that some bring.",
        default="whole; fast with --fast-decode",
        choices=DECODERS,
        title="Decoder",
        hint="Fast: in much less time, and a little rougher.",
    ),
    Field(
        "timesteps",
        "times",
        "a timestep",
        "In place of --steps: the times themselves, 999,749,499,249; for models that want their own.",
        high=999_999,
        served=50,
        title="Times, in place of steps",
        hint="Falling, from 999 to 0: 999, 749, 499.",
    ),
    Field(
        "height",
        "whole",
        "the height",
        "In pixels.",
        default="the model's",
        low=8,
        high=MAX_SIDE,
        title="Height",
    ),
    Field(
        "width",
        "whole",
        "the width",
        "In pixels.",
        default="the model's",
        low=8,
        high=MAX_SIDE,
        title="Width",
    ),
    Field(
        "upscale",
        "number",
        "the upscale",
        "Painted, made so many times larger ({range}), and painted over.",
        low=1,
        high=4,
        zero="changes nothing",
        off=1,
        title="Upscale",
        hint="Made so many times larger, and painted over.",
        slider=(1, 4, 0.25),
    ),
    Field(
        "refine_strength",
        "number",
        "the refine strength",
        "How much is then painted over, {range}.",
        default="{usual:g}",
        high=1,
        zero="paints nothing",
        usual=REFINE_STRENGTH,
        needs="upscale",
        title="Painted over by",
        slider=(0.05, 1, 0.05),
    ),
    Field(
        "refine_steps",
        "whole",
        "the number of refine steps",
        "Network calls of that.",
        default="as many as --steps",
        low=1,
        high=1_000,
        served=50,
        needs="upscale",
        title="Steps of that",
        hint="Empty: as many as above.",
    ),
    Field(
        "tile",
        "switch",
        "tile",
        "A large picture in windows of the model's own size, blended at each step.",
        title="In tiles",
        hint="A large picture in windows of the model's own size.",
    ),
    Field(
        "loras",
        "weights",
        "the weight of an adapter",
        "How much of the model's adapters, by name; those not named: as they were loaded.",
        served=64,
        hint="How much of this adapter.",
        slider=(-1, 2, 0.05),
    ),
)
FIELDS = {field.name: field for field in _ROWS}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all pictures of a request have in common; a plan and a picture's record have the same. None: not given."""

    strength: float | None = None
    negative_prompt: str = ""
    variation: float | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    precision: str | None = None
    decoder: str | None = None
    height: int | None = None
    width: int | None = None
    upscale: float | None = None
    refine_strength: float | None = None
    refine_steps: int | None = None
    tile: bool = False


def settings_of(record: Settings) -> dict[str, Any]:
    """The settings in it, by name."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(Settings)}


def meant(values: Mapping[str, T]) -> dict[str, T]:
    """Those of `values`, by the fields' names, that ask for something: without what is off, and what belongs to it."""
    on = {name: value for name, value in values.items() if value is not None and value != FIELDS[name].off}
    return {name: value for name, value in on.items() if FIELDS[name].needs in ("", *on)}


class Given(TypedDict, total=False):
    """What may be given wherever pictures are asked for, with one meaning everywhere."""

    steps: int | None
    guidance_scale: float | None
    negative_prompt: str
    height: int | None
    width: int | None
    sampler: str | None
    precision: str | None
    decoder: str | None
    loras: Mapping[str, float] | None
    upscale: float | None
    refine_strength: float | None
    refine_steps: int | None
    tile: bool


class Asked(Given, total=False):
    """What may be asked of pictures from words, or on the way between them."""

    seed: int | None
    variation: float | None
    variation_seed: int | None
    timesteps: Sequence[float] | None
    controls: Mapping[str, Picture | tuple[Picture, float]] | None


class Options(Asked, total=False):
    """The options that the pipelines' functions have in common."""

    batch_size: int | None
    on_step: Callable[[Step], None] | None
