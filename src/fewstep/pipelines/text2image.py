"""Text to image: words in, pictures out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from fewstep.errors import InvalidRequest
from fewstep.imaging.reading import as_image
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import Asked, Options
from fewstep.pipelines.generate import OnStep, generate
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.request import Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | str | Path


@overload
def text2image(model: LatentModel, prompt: str, *, num_images: None = None, **options: Unpack[Options]) -> Image: ...
@overload
def text2image(model: LatentModel, prompt: str, *, num_images: int, **options: Unpack[Options]) -> list[Image]: ...
@overload
def text2image(
    model: LatentModel,
    prompt: list[str] | tuple[str, ...],
    *,
    num_images: int | None = None,
    **options: Unpack[Options],
) -> list[Image]: ...
def text2image(
    model: LatentModel,
    prompt: str | list[str] | tuple[str, ...],
    *,
    num_images: int | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
    **options: Unpack[Asked],
) -> Image | list[Image]:
    """Generate `prompt`: (words) count more, [words] less, (words:1.3) as much as that; <lora:NAME:0.8> takes
    so much of a loaded adapter (`prompts.understood`).

    num_images      pictures for each prompt; a number, or several prompts, gives a list
    batch_size      how many pictures go through the network at once; default: by their size
    on_step         is called with every `Step` as it happens

    and, of options:

    steps           network calls along the way; default: the card's (4 for the starter)
    seed            of the first picture, the next ones take seed + 1, …; default: a random one
    guidance_scale  how closely to follow the words, 1 = no guidance; default: the card's
    negative_prompt what to lead away from, for models with real guidance
    height, width   in pixels; default: the model's
    sampler         one of `samplers_of(model.profile)` (`fewstep.core.samplers`); default: the first, the model's own
    timesteps       in place of steps: the very times to ask the network at, falling, in training's numbers (999 … 0)
    loras           how much of the model's adapters, by name; those not named: as they were loaded
    controls        pictures for the model's ControlNets, by name, alone or with a scale from 0 to 2
    variation       from 0 to 1: pictures near to that of `seed`, their noise turned so far towards that of
    variation_seed  and the seeds after it; default: seed + 1
    upscale         above 1 to 4: the picture is made so many times larger, and then generated over by
    refine_strength above 0 to 1; default: 0.4; in
    refine_steps    steps; default: as many as the first time
    tile            a picture larger than the model's own size is sampled in windows of that size, blended at every step

    The same seed gives the same picture alone and among others. Each picture carries its parameters in `.info`.
    Raises `InvalidRequest`.
    """
    images = generate(model, *requested(prompt, num_images, options), batch_size=batch_size, on_step=on_step)
    return images[0] if isinstance(prompt, str) and num_images is None else images


def requested(
    prompt: str | list[str] | tuple[str, ...], num_images: int | None, options: Mapping[str, Any]
) -> list[Request]:
    """The requests that a function's options make: one, or one for every run of prompts that name the same adapters.

    Raises `InvalidRequest`.
    """
    values = dict(options)
    if values.get("timesteps") is not None:
        values["timesteps"] = tuple(values["timesteps"])
    values["controls"] = as_controls(values.get("controls"))
    values["negative_prompt"] = understood(values.get("negative_prompt") or "", negative=True).text
    prompts = [understood(each) for each in (prompt if isinstance(prompt, (list, tuple)) else (prompt,))]
    runs = [list(alike) for _, alike in groupby(prompts, key=lambda each: each.loras)]
    if len(runs) > 1 and values.get("seed") is None:
        values["seed"] = secrets.randbelow(2**32)  # the same for all
    return [
        Request.of(
            [each.text for each in run],
            num_images=num_images,
            **values | {"loras": both(values.get("loras"), run[0].loras if run else {})},
        )
        for run in runs or [[]]
    ]


def as_controls(given: Mapping[str, Control | Picture | tuple[Picture, float]] | None) -> dict[str, Control] | None:
    """Pictures or paths, alone or with a scale, as `Control`s; raises `InvalidRequest`."""
    if given is None:
        return None
    return {name: _as_control(value) for name, value in given.items()}


def _as_control(value: Control | Picture | tuple[Picture, float]) -> Control:
    if isinstance(value, Control):
        return value
    image, scale = value if isinstance(value, tuple) else (value, 1.0)
    return Control(as_image(image), scale)


def both(given: Mapping[str, float] | None, named: Mapping[str, float]) -> Mapping[str, float] | None:
    """The weights that options give, and those that a prompt names; raises `InvalidRequest` where they disagree."""
    if twice := [name for name in named if (given or {}).get(name, named[name]) != named[name]]:
        raise InvalidRequest(f"the LoRA {twice[0]!r} is given one weight in the prompt and another beside it")
    return {**(given or {}), **named} or None
