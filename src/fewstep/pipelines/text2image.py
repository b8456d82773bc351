"""Text to image: words in, pictures out. `paint` is the heart of every pipeline."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from fewstep.core.consistency import ConsistencyFunction
from fewstep.core.guidance import ClassifierFreeGuidance, w_from_guidance_scale
from fewstep.core.inpainting import Inpainting
from fewstep.core.noise import Noise, PictureNoise
from fewstep.core.prediction import Denoise
from fewstep.core.sampling import Step, sample_consistency, sample_ode
from fewstep.core.solvers import SOLVERS
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.bundle import ModelBundle
from fewstep.models.conditioning import Conditioning
from fewstep.pipelines.image_file import as_image
from fewstep.pipelines.pixels import composite, mask_weights, to_images, to_pixels
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.provenance import describe
from fewstep.pipelines.request import Control, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | str | Path

OnStep = Callable[[Step], None]


class Options(TypedDict, total=False):
    """The options that all pipelines have in common, for the type checker."""

    steps: int | None
    seed: int | None
    guidance_scale: float | None
    negative_prompt: str
    height: int | None
    width: int | None
    sampler: str | None
    timesteps: Sequence[int] | None
    loras: Mapping[str, float] | None
    controls: Mapping[str, Picture | tuple[Picture, float]] | None
    batch_size: int | None
    on_step: OnStep | None


@overload
def text2image(model: ModelBundle, prompt: str, *, num_images: None = None, **options: Unpack[Options]) -> Image: ...
@overload
def text2image(model: ModelBundle, prompt: str, *, num_images: int, **options: Unpack[Options]) -> list[Image]: ...
@overload
def text2image(
    model: ModelBundle,
    prompt: list[str] | tuple[str, ...],
    *,
    num_images: int | None = None,
    **options: Unpack[Options],
) -> list[Image]: ...
def text2image(
    model: ModelBundle,
    prompt: str | list[str] | tuple[str, ...],
    *,
    steps: int | None = None,
    seed: int | None = None,
    num_images: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    height: int | None = None,
    width: int | None = None,
    sampler: str | None = None,
    timesteps: Sequence[int] | None = None,
    loras: Mapping[str, float] | None = None,
    controls: Mapping[str, Picture | tuple[Picture, float]] | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
) -> Image | list[Image]:
    """Paint `prompt`.

    steps           network calls along the way; default: the card's (4 for the starter)
    seed            of the first picture, the next ones take seed + 1, …; default: a random one
    num_images      pictures for each prompt; a number, or several prompts, gives a list
    guidance_scale  how closely to follow the words, 1 = no guidance; default: the card's
    sampler         "lcm", or for a diffusion model "dpm++" (its default), "ddim", "heun"
    timesteps       in place of steps: the very times to ask the network at, falling, in training's numbers (999 … 0)
    loras           how much of the model's adapters, by name; those not named: as they were loaded
    controls        pictures for the model's ControlNets, by name, alone or with a scale from 0 to 2
    batch_size      how many pictures go through the network at once; default: by their size
    on_step         is called with every `Step` as it happens

    The same seed gives the same picture alone and among others. Each picture carries its parameters in `.info`.
    Raises `InvalidRequest`.
    """
    request = Request.of(
        prompt,
        seed,
        num_images,
        steps=steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        sampler=sampler,
        timesteps=None if timesteps is None else tuple(timesteps),
        loras=loras,
        controls=as_controls(controls),
    )
    images = generate(model, complete(request, model, batch_size), on_step)
    return images[0] if isinstance(prompt, str) and num_images is None else images


def as_controls(given: Mapping[str, Picture | tuple[Picture, float]] | None) -> dict[str, Control] | None:
    """Pictures or paths, alone or with a scale, as `Control`s; raises `InvalidRequest`."""
    if given is None:
        return None
    pairs = {name: value if isinstance(value, tuple) else (value, 1.0) for name, value in given.items()}
    return {name: Control(as_image(image), scale) for name, (image, scale) in pairs.items()}


def generate(model: ModelBundle, plan: Plan, on_step: OnStep | None = None) -> list[Image]:
    """Carry out a plan, batch by batch; warns of what has no effect."""
    for advice in plan.advice:
        warnings.warn(advice, FewstepWarning, stacklevel=3)
    images = [image for batch in plan.batches() for image in _paint_within_memory(model, batch, on_step)]
    for index, image in enumerate(images):
        image.info.update(describe(model, plan, index))
    return images


def _paint_within_memory(model: ModelBundle, batch: Plan, on_step: OnStep | None) -> list[Image]:
    """A batch that does not fit is painted in halves; one picture that does not fit is decoded in tiles."""
    try:
        return _paint_batch(model, batch, on_step)
    except torch.OutOfMemoryError as error:
        size, count = f"{batch.width} x {batch.height}", len(batch.seeds)
        if count == 1 and not model.decode_in_tiles():
            raise InvalidRequest(
                f"a picture of {size} does not fit into the memory of {model.device}; ask for a smaller one"
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if count == 1:
        warnings.warn(f"a picture of {size} does not fit into memory at once: decoded in tiles", FewstepWarning, 4)
        return _paint_within_memory(model, batch, on_step)
    half = math.ceil(count / 2)
    warnings.warn(f"{count} pictures of {size} do not fit into memory at once: {half} at a time", FewstepWarning, 4)
    halves = replace(batch, batch_size=half).batches()
    return [image for part in halves for image in _paint_within_memory(model, part, on_step)]


def _paint_batch(model: ModelBundle, batch: Plan, on_step: OnStep | None) -> list[Image]:
    for step in paint(model, batch):
        if on_step is not None:
            on_step(step)
    return to_images(decoded(model, batch, step.x_t))


def decoded(model: ModelBundle, plan: Plan, latents: Tensor) -> Tensor:
    """Latents to pixels (B, 3, H, W); outside of a mask, the picture that was given."""
    pixels = model.decode(latents)
    if plan.image is None or plan.mask is None:
        return pixels
    return composite(pixels, plan.image, plan.mask)


@torch.inference_mode()
def paint(
    model: ModelBundle, plan: Plan, words: Conditioning | None = None, noise: Noise | None = None
) -> Iterator[Step]:
    """Encode the words, draw the noise, walk from it to a picture's latents; yields every step.

    words, noise  in place of what the plan's prompts and seeds mean

    A picture to start from is mixed with the noise up to the first of the timesteps (SDEdit, 2108.01073).
    """
    cond = completed(model, plan, words or model.encode_prompts(plan.prompts, plan.lora_weights))
    denoise, w = guided(model, plan)
    source = noise or PictureNoise(plan.seeds)

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
    else:
        solver = SOLVERS[plan.sampler](model.schedule)
        yield from sample_ode(solver, denoise, x_T, plan.timesteps, cond, final_timestep=plan.final_timestep)


def guided(model: ModelBundle, plan: Plan) -> tuple[Denoise, Tensor | None]:
    """The denoiser that follows the guidance scale, and the w that is left for the network to embed."""
    w = w_from_guidance_scale(plan.guidance_scale)
    if model.embeds_guidance:
        return model.denoise, torch.full((len(plan.seeds),), w, device=model.device)
    if w == 0.0:
        return model.denoise, None
    uncond = completed(model, plan, model.encode_negative(plan.negative_prompt, plan.lora_weights))
    return ClassifierFreeGuidance(model.denoise, uncond.expand(len(plan.seeds)), w), None


def completed(model: ModelBundle, plan: Plan, cond: Conditioning) -> Conditioning:
    """Encoded words with all else that the networks read: sizes, and the pictures for ControlNets."""
    cond = model.framed(cond, plan.height, plan.width)
    if not any(plan.controls):
        return cond
    pictures = torch.stack(
        [
            torch.zeros(3, plan.height, plan.width)
            if control is None
            else to_pixels(control.image, plan.height, plan.width)[0] / 2 + 0.5
            for control in plan.controls
        ]
    )
    scales = torch.tensor([0.0 if control is None else control.scale for control in plan.controls])
    rows = len(cond)
    return replace(
        cond, controls=pictures.expand(rows, *pictures.shape), control_scales=scales.expand(rows, len(scales))
    )
