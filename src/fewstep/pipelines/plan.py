"""`Plan`: a request completed from the model's profile and checked against what that model can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS, samplers_of
from fewstep.core.samplers.grids import training_grid
from fewstep.errors import InvalidRequest
from fewstep.imaging.reading import ANIMATED
from fewstep.models.latent_model import Described
from fewstep.pipelines.fields import DEFAULT_STRENGTH, MAX_SIDE, REFINE_STRENGTH, Settings, settings_of
from fewstep.pipelines.request import ROWS, Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LATENTS_AT_ONCE = 16_384  # 16 pictures of 8 x 8 latents up to BATCH_LIMIT, 4 of 64 x 64
BATCH_LIMIT = 16
LARGE = 2.0  # times the side that a model was trained on: from there on it paints things twice
MOST_STEPS = 8  # of a consistency model
LEAST_EMBEDDED_GUIDANCE = 3.0  # that models which read w were distilled on


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan(Settings):
    """A `Request` without open questions.

    strength        1 without a picture to start from; None where the timesteps were given (a refinement, whose
                    timesteps are those below it, has one all the same)
    mask            of a picture in part: white is painted anew, black stays
    timesteps       (N,) int64, descending: where the network is asked
    profile         how it is sampled: as the model's says, but that a walk over times of one's own ends on clean data
    batch_size      how many pictures go through the network at once
    lora_weights    of each of the model's adapters, in their order
    controls        for each of `model.steered_by`, in that order; None: not followed
    windows         how often the text encoder reads for each prompt: 1, more for long ones
    window          (height, width) in latents of the windows that a large picture is painted in; None: in one piece
    refinement      the plan of the second round, over the pictures of the first, each made larger
    advice          what was asked for and has no effect, a sentence each
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    image: Image | None
    mask: Image | None
    timesteps: Tensor
    profile: SamplingProfile
    batch_size: int
    windows: tuple[int, ...]
    lora_weights: tuple[float, ...] = ()
    controls: tuple[Control | None, ...] = ()
    variation_seeds: tuple[int, ...] = ()
    window: tuple[int, int] | None = None
    refinement: Plan | None = None
    advice: tuple[str, ...] = ()
    # of its settings, those that are never open
    steps: int = field()
    guidance_scale: float = field()
    height: int = field()
    width: int = field()
    sampler: str = field()

    @property
    def num_steps(self) -> int:
        """How many steps there are to wait for, over all batches and rounds."""
        first = sum(len(self.timesteps) for _ in self.batches())
        return first + (0 if self.refinement is None else len(self.seeds) * len(self.refinement.timesteps))

    def rows(self, start: int, end: int) -> Plan:
        """The pictures from `start` to before `end`."""
        parts: dict[str, Any] = {part: getattr(self, part)[start:end] for part in (*ROWS, "windows")}
        if self.refinement is not None:
            parts["refinement"] = self.refinement.rows(start, end)
        return dataclasses.replace(self, **parts)

    def batches(self) -> Iterator[Plan]:
        """The same pictures, at most `batch_size` at a time, and together only such as have equally long prompts."""
        for _, alike in groupby(range(len(self.seeds)), key=self.windows.__getitem__):
            places = list(alike)
            for start in range(places[0], places[-1] + 1, self.batch_size):
                yield self.rows(start, min(start + self.batch_size, places[-1] + 1))


def complete(request: Request, model: Described, batch_size: int | None = None) -> Plan:
    """Fill in what was left open; raises `InvalidRequest` for what this model cannot do."""
    height, width = model.traits.default_size
    samplers = samplers_of(model.profile)
    sampler = _first(request.sampler, samplers[0])
    if sampler not in samplers:
        raise InvalidRequest(
            f"the sampler {sampler!r} is not for {model.name}, which is of kind {model.kind!r}; "
            f"use {' or '.join(samplers)}"
        )
    steps = len(request.timesteps) if request.timesteps else _first(request.steps, model.profile.steps)
    height = _checked_side("height", _first(request.height, height), model)
    width = _checked_side("width", _first(request.width, width), model)
    whole = request.image is None or request.mask is not None
    strength = None if request.timesteps else _first(request.strength, 1.0 if whole else DEFAULT_STRENGTH)
    guidance_scale = _checked_guidance(request, model)
    completed = {
        "steps": steps,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
        "sampler": sampler,
        "strength": strength,
    }
    return Plan(
        **settings_of(request) | completed,
        prompts=request.prompts,
        seeds=request.seeds,
        image=request.image,
        mask=request.mask,
        timesteps=_given_times(model, request.timesteps)
        if strength is None
        else _times(model, sampler, steps, strength),
        profile=model.profile.ending_clean() if request.timesteps else model.profile,
        batch_size=_batch_size(batch_size, model.latent_shape(height, width)),
        windows=_windows(request, model),
        lora_weights=_lora_weights(request, model),
        controls=_controls(request, model),
        variation_seeds=request.variation_seeds,
        window=model.latent_shape(*model.traits.default_size)[1:] if request.tile else None,
        refinement=_refinement(request, model, sampler, height, width, steps),
        advice=tuple(_advice(request, model, guidance_scale)),
    )


def _refinement(request: Request, model: Described, sampler: str, height: int, width: int, steps: int) -> Plan | None:
    """The second round: the same words and seeds, at the size that is wanted at last, over a part of the times."""
    if request.upscale is None:
        return None
    unit = model.traits.pixels_per_latent
    across, down = (round(size * request.upscale / unit) * unit for size in (width, height))
    if max(across, down) > MAX_SIDE:
        raise InvalidRequest(f"{across} x {down} is too large; at most {MAX_SIDE} along a side are allowed")
    strength = _first(request.refine_strength, REFINE_STRENGTH)
    total = model.schedule.num_train_timesteps
    times = tuple(t for t in request.timesteps or () if t < strength * total)
    if request.timesteps and not times:
        raise InvalidRequest(f"none of the timesteps lies below {strength * total:g}, where the refinement begins")
    second = dataclasses.replace(
        request,
        upscale=None,
        refine_strength=None,
        refine_steps=None,
        image=None,
        strength=None,
        steps=None if times else _first(request.refine_steps, max(steps, SAMPLERS[sampler].least_steps(strength))),
        height=down,
        width=across,
    )
    plan = complete(dataclasses.replace(second, timesteps=times or None), model, batch_size=1)
    try:
        timesteps = plan.timesteps if times else _times(model, plan.sampler, plan.steps, strength)
    except InvalidRequest as error:
        raise InvalidRequest(f"painting over the larger picture: {error}") from error
    return dataclasses.replace(plan, strength=strength, timesteps=timesteps)


def _first(given: T | None, otherwise: T) -> T:
    return otherwise if given is None else given


def _batch_size(given: int | None, latent_shape: tuple[int, int, int]) -> int:
    if given is not None:
        if given < 1:
            raise InvalidRequest(f"the batch size is {given}; it must be a whole number from 1")
        return given
    _, height, width = latent_shape
    return min(BATCH_LIMIT, max(1, LATENTS_AT_ONCE // (height * width)))


def _times(model: Described, sampler: str, steps: int, strength: float) -> Tensor:
    try:
        return SAMPLERS[sampler].times(model.profile, steps, strength)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _given_times(model: Described, timesteps: tuple[int, ...] | None) -> Tensor:
    assert timesteps
    total = model.schedule.num_train_timesteps
    if timesteps[0] >= total:
        raise InvalidRequest(f"the timestep {timesteps[0]} is beyond {model.name}, which knows 0 to {total - 1}")
    return torch.tensor(timesteps)


def _checked_side(name: str, size: int, model: Described) -> int:
    unit = model.traits.pixels_per_latent
    if size % unit:
        raise InvalidRequest(f"the {name} is {size}; for {model.name} it must be a multiple of {unit}")
    return size


def _checked_guidance(request: Request, model: Described) -> float:
    low, high = model.profile.guidance_range
    scale = float(_first(request.guidance_scale, model.profile.guidance.scale))
    if low <= scale <= high:
        return scale
    if model.profile.guidance.embedded:
        raise InvalidRequest(f"the guidance scale is {scale:g}; {model.name} was distilled for {low:g} to {high:g}")
    few_step = model.name if model.loras is None else f"{model.name} with an LCM-LoRA"
    raise InvalidRequest(
        f"the guidance scale is {scale:g}; {few_step} has learnt its guidance, and more on top burns the colours: "
        f"{low:g} to {high:g} are allowed"
    )


def _windows(request: Request, model: Described) -> tuple[int, ...]:
    counts = {prompt: model.num_windows(prompt) for prompt in set(request.prompts)}
    return tuple(counts[prompt] for prompt in request.prompts)


def _lora_weights(request: Request, model: Described) -> tuple[float, ...]:
    if model.loras is not None:
        return model.loras.weigh(request.loras)
    if request.loras:
        name = next(iter(request.loras))
        raise InvalidRequest(
            f"{model.name} has no LoRA loaded, and {name!r} was asked for: load the model with it (--lora FILE; in "
            "Python loras=[FILE])"
        )
    return ()


def _controls(request: Request, model: Described) -> tuple[Control | None, ...]:
    wanted, here = request.controls or {}, model.steered_by
    if unknown := sorted(set(wanted) - set(here)):
        loaded = f"loaded are {', '.join(here)}" if here else f"{model.name} has none loaded"
        raise InvalidRequest(f"no ControlNet {unknown[0]!r} here; {loaded}")
    return tuple(wanted.get(name) for name in here) if wanted else ()


def _advice(request: Request, model: Described, guidance_scale: float) -> Iterator[str]:
    if request.negative_prompt and (model.profile.guidance.embedded or guidance_scale == 1.0):
        reason = (
            "its guidance is part of the network"
            if model.profile.guidance.embedded
            else "a guidance scale of 1 is none"
        )
        yield f"the negative prompt has no effect on {model.name}: {reason}"
    for prompt in dict.fromkeys((*request.prompts, request.negative_prompt)):
        if unread := model.unread(prompt):
            yield f"the prompt is too long even for several readings; {model.name} does not see: {unread[:200]!r}"
    for picture, what in ((request.image, "the picture to start from"), (request.mask, "the mask")):
        if picture is not None and picture.info.get(ANIMATED):
            yield f"{what} is animated; its first frame is used"
    if not request.tile and (request.strength or 1.0) > DEFAULT_STRENGTH:
        trained = model.traits.default_size
        wanted = _first(request.height, trained[0]), _first(request.width, trained[1])
        if any(side >= LARGE * known for side, known in zip(wanted, trained, strict=True)):
            yield (
                f"{model.name} was trained on {trained[1]} x {trained[0]} and tends to paint things twice at "
                f"{wanted[1]} x {wanted[0]}: upscale a smaller picture, or tile"
            )
    if model.kind != "lcm":
        return
    yield from _few_step_advice(request, model, guidance_scale)


def _few_step_advice(request: Request, model: Described, guidance_scale: float) -> Iterator[str]:
    """For consistency models."""
    if (
        model.profile.guidance.embedded
        and model.profile.guidance.w_range is None
        and guidance_scale < LEAST_EMBEDDED_GUIDANCE
    ):
        yield (
            f"{model.name} has guidance inside, and such models were distilled for scales of about 3 to 15: at "
            f"{guidance_scale:g} pictures grow vague"
        )
    steps = request.steps or model.profile.steps
    height, width = request.height or model.traits.default_size[0], request.width or model.traits.default_size[1]
    small = height < model.traits.default_size[0] or width < model.traits.default_size[1]
    stacked = model.profile.sampler == "lcm" and model.loras is not None and model.loras.makes_few_step
    least = model.traits.least_lora_steps
    if stacked and not small and steps < least and not request.timesteps:
        yield (
            f"an LCM-LoRA on SDXL at its full size shows a grid in {steps} steps: take {least} to {MOST_STEPS}, "
            "or paint at 768 x 768 and upscale"
        )
    total, known = model.schedule.num_train_timesteps, model.profile.grid.original_inference_steps
    grid = set(training_grid(total, known).tolist())
    if off := [t for t in request.timesteps or () if t not in grid]:
        yield (
            f"{model.name} was distilled on the times {min(grid)}, {min(grid) + total // known}, … {max(grid)} and "
            f"guesses at {off[0]}"
        )
    if (request.steps or 0) > MOST_STEPS:
        yield f"{model.name} is made for 1 to {MOST_STEPS} steps; {request.steps} are slower and seldom better"
