"""Text to image: words in, pictures out. `paint` is the heart of every pipeline."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from fewstep.core.consistency import ConsistencyFunction
from fewstep.core.guidance import ClassifierFreeGuidance, w_from_guidance_scale
from fewstep.core.inpainting import Inpainting
from fewstep.core.noise import Noise, NoiseBetween, PictureNoise
from fewstep.core.prediction import Denoise
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.base import Step
from fewstep.core.samplers.lcm import sample_consistency
from fewstep.core.samplers.ode import sample_ode
from fewstep.core.samplers.tcd import sample_trajectory
from fewstep.core.tiling import Tiled
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.imaging.pixels import composite, mask_weights, to_images, to_pixels
from fewstep.imaging.reading import as_image
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel
from fewstep.models.memory import free_cache, out_of_memory
from fewstep.pipelines.fields import Options
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.provenance import describe
from fewstep.pipelines.request import Control, Request
from fewstep.pipelines.steering import completed

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | str | Path

OnStep = Callable[[Step], None]
Given = Callable[[range], tuple[Conditioning | None, Noise | None]]  # by the rows of a plan: words, and noise


def _nothing_given(_: range) -> tuple[None, None]:
    return None, None


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
    **options: Any,
) -> Image | list[Image]:
    """Paint `prompt`, in which (words) count more, [words] less, and (words:1.3) as much as that; <lora:NAME:0.8> takes
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
    sampler         "lcm" or "tcd", or for a diffusion model "dpm++" (its default), "unipc", "ddim", "heun"
    timesteps       in place of steps: the very times to ask the network at, falling, in training's numbers (999 … 0)
    loras           how much of the model's adapters, by name; those not named: as they were loaded
    controls        pictures for the model's ControlNets, by name, alone or with a scale from 0 to 2
    variation       from 0 to 1: pictures near to that of `seed`, their noise turned so far towards that of
    variation_seed  and the seeds after it; default: seed + 1
    upscale         above 1 to 4: the picture is made so many times larger, and then painted over by
    refine_strength above 0 to 1; default: 0.4; in
    refine_steps    steps; default: as many as the first time
    tile            a picture larger than the model's own size is painted in windows of that size, blended at every step

    The same seed gives the same picture alone and among others. Each picture carries its parameters in `.info`.
    Raises `InvalidRequest`.
    """
    images = paint_all(model, requested(prompt, num_images, options), batch_size, on_step)
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


def paint_all(
    model: LatentModel, requests: Sequence[Request], batch_size: int | None, on_step: OnStep | None
) -> list[Image]:
    """Carry out requests; all are checked before the first is painted."""
    plans = [complete(request, model, batch_size) for request in requests]
    return [image for plan in plans for image in generate(model, plan, on_step)]


def generate(model: LatentModel, plan: Plan, on_step: OnStep | None = None) -> list[Image]:
    """Carry out a plan, batch by batch; warns of what has no effect."""
    return list(painted(model, plan, on_step))


def painted(model: LatentModel, plan: Plan, on_step: OnStep | None = None) -> Iterator[Image]:
    """The same, each picture as soon as its batch is done."""
    for index, image in enumerate(carry_out(model, plan, on_step)):
        image.info.update(describe(model, plan, index))
        yield image


def carry_out(model: LatentModel, plan: Plan, on_step: OnStep | None, given: Given = _nothing_given) -> Iterator[Image]:
    """The pictures of a plan, without their parameters; `given` may put other words and noise in place of its own."""
    for advice in plan.advice:
        warnings.warn(advice, FewstepWarning, stacklevel=5)
    done = 0
    for batch in plan.batches():
        rows = range(done, done + len(batch.seeds))
        done = rows.stop
        images = _paint_within_memory(model, plan, rows, on_step, given)
        if plan.refinement is not None:  # each made as large as the plan wants it, and painted over
            rounds = [replace(plan.refinement, image=image) for image in images]
            one = [range(row, row + 1) for row in rows]
            images = [
                _paint_within_memory(model, each, row, on_step, given)[0] for each, row in zip(rounds, one, strict=True)
            ]
        yield from images


def _paint_within_memory(
    model: LatentModel, plan: Plan, rows: range, on_step: OnStep | None, given: Given
) -> list[Image]:
    """A batch that does not fit is painted in halves; for one picture that does not fit, the model takes less room."""
    try:
        return _paint_rows(model, plan, rows, on_step, given)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        cause = error.with_traceback(None)  # whose frames hold on to the memory
    size, count = f"{plan.width} x {plan.height}", len(rows)
    if count == 1:
        if (how := model.take_less()) is None:
            raise InvalidRequest(
                f"a picture of {size} does not fit into the memory of {model.device}; ask for a smaller one"
            ) from cause
        warnings.warn(f"a picture of {size} does not fit into memory at once: {how}", FewstepWarning, 4)
        return _paint_within_memory(model, plan, rows, on_step, given)
    free_cache(model.device)
    half = math.ceil(count / 2)
    warnings.warn(f"{count} pictures of {size} do not fit into memory at once: {half} at a time", FewstepWarning, 4)
    parts = (rows[:half], rows[half:])
    return [image for part in parts for image in _paint_within_memory(model, plan, part, on_step, given)]


def _paint_rows(model: LatentModel, plan: Plan, rows: range, on_step: OnStep | None, given: Given) -> list[Image]:
    batch = plan.rows(rows.start, rows.stop)
    for step in paint(model, batch, *given(rows)):
        if on_step is not None:
            on_step(step)
    return to_images(decoded(model, batch, step.x_t))


def decoded(model: LatentModel, plan: Plan, latents: Tensor) -> Tensor:
    """Latents to pixels (B, 3, H, W); outside of a mask, the picture that was given."""
    pixels = model.decode(latents)
    if plan.image is None or plan.mask is None:
        return pixels
    return composite(pixels, plan.image, plan.mask)


@torch.inference_mode()
def paint(
    model: LatentModel, plan: Plan, words: Conditioning | None = None, noise: Noise | None = None
) -> Iterator[Step]:
    """Encode the words, draw the noise, walk from it to a picture's latents; yields every step.

    words, noise  in place of what the plan's prompts and seeds mean

    A picture to start from is mixed with the noise up to the first of the timesteps (SDEdit, 2108.01073).
    """
    cond = completed(model, plan, words or model.encode_prompts(plan.prompts, plan.lora_weights))
    denoise, w = guided(model, plan)
    source = noise or noise_of(plan)

    def draw(_: int = 0) -> Tensor:
        return source.draw(model.latent_shape(plan.height, plan.width)).to(model.device)

    x_T = draw()
    if plan.image is not None:
        start = model.encode_images(to_pixels(plan.image, plan.height, plan.width))
        x_T = model.schedule.add_noise(start.expand_as(x_T), x_T, plan.timesteps[0])
        if plan.mask is not None:
            weights = mask_weights(plan.mask, plan.height, plan.width).to(start)
            # every latent that the mask touches is free: the seam is cut in the pixels, by `decoded`
            denoise = Inpainting(denoise, start, adaptive_max_pool2d(weights, start.shape[-2:]).gt(0).to(start))
    if plan.sampler == "lcm":
        f = ConsistencyFunction(denoise, model.scalings)
        yield from sample_consistency(f, model.schedule, x_T, plan.timesteps, cond, w, draw)
    elif plan.sampler == "tcd":
        gamma = model.profile.gamma
        yield from sample_trajectory(denoise, model.schedule, x_T, plan.timesteps, cond, w, draw, gamma=gamma)
    else:
        solver = SOLVERS[plan.sampler](model.schedule)
        yield from sample_ode(solver, denoise, x_T, plan.timesteps, cond, final_timestep=plan.final_timestep)


def noise_of(plan: Plan) -> Noise:
    """That of the seeds, or for variations on the arc from there to that of the other seeds."""
    if not plan.variation:
        return PictureNoise(plan.seeds)
    return NoiseBetween(plan.seeds, plan.variation_seeds, [plan.variation] * len(plan.seeds))


def guided(model: LatentModel, plan: Plan) -> tuple[Denoise, Tensor | None]:
    """The denoiser that follows the guidance scale, and the w that is left for the network to embed."""
    w = w_from_guidance_scale(plan.guidance_scale)
    denoise: Denoise = model.denoise
    if plan.window is not None:
        denoise = Tiled(denoise, plan.window, model.window)
    if model.embeds_guidance:
        return denoise, torch.full((len(plan.seeds),), w, device=model.device)
    if w == 0.0:
        return denoise, None
    uncond = completed(model, plan, model.encode_negative(plan.negative_prompt, plan.lora_weights), away=True)
    return ClassifierFreeGuidance(denoise, uncond.expand(len(plan.seeds)), w), None
