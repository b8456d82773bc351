"""`Plan`: a request completed from the model's profile and checked against what that model can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS, samplers_of
from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import Described
from fewstep.models.precisions import FAST
from fewstep.pipelines.advice import advice_on
from fewstep.pipelines.fields import DEFAULT_STRENGTH, MAX_SIDE, REFINE_STRENGTH, Settings, settings_of
from fewstep.pipelines.request import Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LATENTS_AT_ONCE = 16_384  # 16 pictures of 8 x 8 latents up to BATCH_LIMIT, 4 of 64 x 64
BATCH_LIMIT = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan(Settings):
    """A `Request` without open questions.

    strength        1 without a picture to start from; None where the timesteps were given (a refinement, whose
                    timesteps are those below it, has one all the same)
    mask            of a picture in part: white is inpainted, black stays
    timesteps       (N,), descending: where the network is asked; int64 on a table, float64 on a flow
    profile         how it is sampled: as the model's says, for this size, but that a walk over times of one's own ends
                    on clean data
    batch_size      how many pictures go through the network at once
    lora_weights    of each of the model's adapters, in their order
    controls        for each of `model.steered_by`, in that order; None: not followed
    windows         how often the text encoder reads for each prompt: 1, more for long ones
    window          (height, width) in latents of the windows that a large picture is sampled in; None: in one piece
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
    precision: str = field()
    decoder: str = field()

    @property
    def num_steps(self) -> int:
        """How many steps there are to wait for, over all batches and rounds."""
        first = sum(len(self.timesteps) for _ in self.batches())
        return first + (0 if self.refinement is None else len(self.seeds) * len(self.refinement.timesteps))

    def rows(self, start: int, end: int) -> Plan:
        """The pictures from `start` to before `end`."""
        return dataclasses.replace(
            self,
            prompts=self.prompts[start:end],
            seeds=self.seeds[start:end],
            variation_seeds=self.variation_seeds[start:end],
            windows=self.windows[start:end],
            refinement=None if self.refinement is None else self.refinement.rows(start, end),
        )

    def batches(self) -> Iterator[Plan]:
        """The same pictures, at most `batch_size` at a time, and together only such as have equally long prompts."""
        for _, alike in groupby(range(len(self.seeds)), key=self.windows.__getitem__):
            places = list(alike)
            for start in range(places[0], places[-1] + 1, self.batch_size):
                yield self.rows(start, min(start + self.batch_size, places[-1] + 1))


def complete(request: Request, model: Described, batch_size: int | None = None) -> Plan:
    """Fill in what was left open; raises `InvalidRequest` for what this model cannot do."""
    sampler = _checked_sampler(request, model)
    height, width = _checked_size(request, model)
    guidance_scale = _checked_guidance(request, model)
    profile = model.profile.for_size(model.traits.tokens(height, width))
    steps, strength, timesteps = _steps(request, model, profile, sampler)
    completed = {
        "steps": steps,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
        "sampler": sampler,
        "precision": _checked_precision(request, model),
        "decoder": _checked_decoder(request, model),
        "strength": strength,
    }
    return Plan(
        **settings_of(request) | completed,
        prompts=request.prompts,
        seeds=request.seeds,
        image=request.image,
        mask=request.mask,
        timesteps=timesteps,
        profile=profile.ending_clean() if request.timesteps else profile,
        batch_size=_batch_size(batch_size, model.traits.latent_shape(height, width)),
        windows=_windows(request, model),
        lora_weights=_lora_weights(request, model),
        controls=_controls(request, model),
        variation_seeds=request.variation_seeds,
        window=model.traits.latent_shape(*model.traits.default_size)[1:] if request.tile else None,
        refinement=_refinement(request, model, sampler, height, width, steps),
        advice=tuple(advice_on(request, model, guidance_scale)),
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
    total = model.profile.schedule.num_train_timesteps
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
        timesteps = plan.timesteps if times else _times(plan.profile, plan.sampler, plan.steps, strength)
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


def _checked_sampler(request: Request, model: Described) -> str:
    samplers = samplers_of(model.profile)
    sampler = _first(request.sampler, samplers[0])
    if sampler in samplers:
        return sampler
    raise InvalidRequest(
        f"the sampler {sampler!r} is not for {model.name}, which is of kind {model.profile.kind!r}; "
        f"use {' or '.join(samplers)}"
    )


def _checked_precision(request: Request, model: Described) -> str:
    own, *others = model.precisions
    if (wanted := _first(request.precision, own)) in model.precisions:
        return wanted
    able = f"float32 or {' or '.join(others)}" if others else f"{own} alone, which it is loaded in"
    how = "float16 (--dtype float16)" if wanted == "float16" else "float32 (--dtype float32), whole on its device"
    raise InvalidRequest(f"{model.name} can be sampled in {able}; for {wanted} load it in {how}")


def _checked_decoder(request: Request, model: Described) -> str:
    decoder = _first(request.decoder, model.decoders[0])
    if decoder in model.decoders:
        return decoder
    if decoder == FAST:
        raise InvalidRequest(
            f"{model.name} brings no fast decoder; load it with another (--fast-decode; in Python vae=)"
        )
    raise InvalidRequest(f"{model.name} was loaded with the fast decoder alone; load it with its own (--full-decode)")


def _steps(
    request: Request, model: Described, profile: SamplingProfile, sampler: str
) -> tuple[int, float | None, Tensor]:
    """How many, from which strength on, at which times."""
    if request.timesteps:
        return len(request.timesteps), None, _given_times(model, request.timesteps)
    whole = request.image is None or request.mask is not None
    steps = _first(request.steps, model.profile.steps)
    strength = _first(request.strength, 1.0 if whole else DEFAULT_STRENGTH)
    return steps, strength, _times(profile, sampler, steps, strength)


def _times(profile: SamplingProfile, sampler: str, steps: int, strength: float) -> Tensor:
    try:
        return SAMPLERS[sampler].times(profile, steps, strength)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _given_times(model: Described, timesteps: tuple[float, ...]) -> Tensor:
    if model.profile.is_flow:
        return _given_flow_times(model, timesteps)
    if between := [t for t in timesteps if t != int(t)]:
        raise InvalidRequest(f"the timestep {between[0]} is not whole, and {model.name} knows whole times alone")
    total = model.profile.schedule.num_train_timesteps
    if timesteps[0] >= total:
        raise InvalidRequest(f"the timestep {timesteps[0]} is beyond {model.name}, which knows 0 to {total - 1}")
    return torch.tensor([int(t) for t in timesteps])


def _given_flow_times(model: Described, timesteps: tuple[float, ...]) -> Tensor:
    schedule = model.profile.schedule
    if timesteps[0] > schedule.last or timesteps[-1] <= schedule.clean:
        raise InvalidRequest(
            f"the timesteps are {', '.join(map(str, timesteps))}; {model.name} knows those above {schedule.clean:g}, "
            f"up to {schedule.last:g}"
        )
    return torch.tensor(timesteps, dtype=torch.float64)


def _checked_size(request: Request, model: Described) -> tuple[int, int]:
    height, width = model.traits.default_size
    height, width = _first(request.height, height), _first(request.width, width)
    return _checked_side("height", height, model), _checked_side("width", width, model)


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
