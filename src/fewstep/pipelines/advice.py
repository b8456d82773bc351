"""What is worth saying of a request that can be fulfilled: what of it has no effect, and what a model does badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fewstep.imaging.reading import ANIMATED
from fewstep.models.latent_model import Described
from fewstep.pipelines.fields import DEFAULT_STRENGTH
from fewstep.pipelines.request import Request

LARGE = 2.0  # times the side that a model was trained on: from there on it shows things twice
MOST_STEPS = 8  # of a consistency model
LEAST_EMBEDDED_GUIDANCE = 3.0  # that models which read w were distilled on


def advice_on(request: Request, model: Described, guidance_scale: float) -> Iterator[str]:
    """A sentence each."""
    yield from _on_words(request, model, guidance_scale)
    yield from _on_pictures(request)
    yield from _on_size(request, model)
    if model.profile.kind == "lcm":
        yield from _on_guidance(model, guidance_scale)
        yield from _on_few_steps(request, model)


def _on_words(request: Request, model: Described, guidance_scale: float) -> Iterator[str]:
    embedded = model.profile.guidance.embedded
    if request.negative_prompt and (embedded or guidance_scale == 1.0):
        reason = "its guidance is part of the network" if embedded else "a guidance scale of 1 is none"
        yield f"the negative prompt has no effect on {model.name}: {reason}"
    for prompt in dict.fromkeys((*request.prompts, request.negative_prompt)):
        if unread := model.unread(prompt):
            yield f"the prompt is too long even for several readings; {model.name} does not see: {unread[:200]!r}"


def _on_pictures(request: Request) -> Iterator[str]:
    for picture, what in ((request.image, "the picture to start from"), (request.mask, "the mask")):
        if picture is not None and picture.info.get(ANIMATED):
            yield f"{what} is animated; its first frame is used"


def _on_size(request: Request, model: Described) -> Iterator[str]:
    if request.tile or (request.strength or 1.0) <= DEFAULT_STRENGTH:
        return
    trained = model.traits.default_size
    wanted = request.height or trained[0], request.width or trained[1]
    if any(side >= LARGE * known for side, known in zip(wanted, trained, strict=True)):
        yield (
            f"{model.name} was trained on {trained[1]} x {trained[0]} and tends to paint things twice at "
            f"{wanted[1]} x {wanted[0]}: upscale a smaller picture, or tile"
        )


def _on_guidance(model: Described, guidance_scale: float) -> Iterator[str]:
    """For consistency models."""
    guidance = model.profile.guidance
    if guidance.embedded and guidance.w_range is None and guidance_scale < LEAST_EMBEDDED_GUIDANCE:
        yield (
            f"{model.name} has guidance inside, and such models were distilled for scales of about 3 to 15: at "
            f"{guidance_scale:g} pictures grow vague"
        )


def _on_few_steps(request: Request, model: Described) -> Iterator[str]:
    """For consistency models."""
    steps, (height, width) = request.steps or model.profile.steps, model.traits.default_size
    small = (request.height or height) < height or (request.width or width) < width
    stacked = model.profile.sampler == "lcm" and model.loras is not None and model.loras.makes_few_step
    least = model.traits.least_lora_steps
    if stacked and not small and steps < least and not request.timesteps:
        yield (
            f"an LCM-LoRA on SDXL at its full size shows a grid in {steps} steps: take {least} to {MOST_STEPS}, "
            "or paint at 768 x 768 and upscale"
        )
    if request.timesteps and not model.profile.is_flow:
        yield from _on_times(model, request.timesteps)
    if (request.steps or 0) > MOST_STEPS and model.profile.sampler != "flow_map":
        yield f"{model.name} is made for 1 to {MOST_STEPS} steps; {request.steps} are slower and seldom better"


def _on_times(model: Described, timesteps: Sequence[float]) -> Iterator[str]:
    """For consistency models on a table; those of flows know all times between."""
    total, known = model.profile.schedule.num_train_timesteps, model.profile.grid.original_inference_steps
    grid = set(model.profile.schedule.grid(known).tolist())
    if off := [t for t in timesteps if t not in grid]:
        yield (
            f"{model.name} was distilled on the times {min(grid)}, {min(grid) + total // known}, … {max(grid)} and "
            f"guesses at {off[0]}"
        )
