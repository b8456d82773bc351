"""The heart of every pipeline: a plan sampled, from its words and its noise to the latents of its pictures."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from fewstep.core.denoise import Denoise
from fewstep.core.guidance import ClassifierFreeGuidance, w_from_guidance_scale
from fewstep.core.inpainting import Inpainting
from fewstep.core.noise import Noise, NoiseBetween, PictureNoise
from fewstep.core.samplers import SAMPLERS
from fewstep.core.samplers.base import Step
from fewstep.core.tiling import Tiled
from fewstep.imaging.pixels import composite, mask_weights, to_pixels
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.plan import Plan


@torch.inference_mode()
def sample(
    model: LatentModel, plan: Plan, words: Conditioning | None = None, noise: Noise | None = None
) -> Iterator[Step]:
    """Encode the words, draw the noise, walk from it to a picture's latents; yields every step.

    words, noise  in place of what the plan's prompts and seeds mean

    A picture to start from is mixed with the noise up to the first of the timesteps (SDEdit, 2108.01073).
    """
    model = model.at(plan.precision, plan.decoder)
    cond = words or model.encode_prompts(plan.prompts, plan.lora_weights)
    cond = model.conditioned(cond, plan.height, plan.width, plan.controls)
    denoise, w = guided(model, plan)
    source = noise or noise_of(plan)

    def draw(_: int = 0) -> Tensor:
        return source.draw(model.traits.latent_shape(plan.height, plan.width)).to(model.device)

    denoise, x_T = _from_picture(model, plan, denoise, draw())
    yield from SAMPLERS[plan.sampler].walk(denoise, plan.profile, x_T, plan.timesteps, cond, w, draw)


def _from_picture(
    model: LatentModel, plan: Plan, denoise: Denoise[Conditioning], noise: Tensor
) -> tuple[Denoise[Conditioning], Tensor]:
    """Where the walk begins: in pure noise, or in as much of it as leaves something of a picture to start from."""
    if plan.image is None:
        return denoise, noise
    start = model.encode_images(to_pixels(plan.image, plan.height, plan.width))
    x_t = plan.profile.schedule.add_noise(start.expand_as(noise), noise, plan.timesteps[0])
    if plan.mask is None:
        return denoise, x_t
    weights = mask_weights(plan.mask, plan.height, plan.width).to(start)
    # every latent that the mask touches is free: the seam is cut in the pixels, by `decoded`
    return Inpainting(denoise, start, adaptive_max_pool2d(weights, start.shape[-2:]).gt(0).to(start)), x_t


def noise_of(plan: Plan) -> Noise:
    """That of the seeds, or for variations on the arc from there to that of the other seeds."""
    if not plan.variation:
        return PictureNoise(plan.seeds)
    return NoiseBetween(plan.seeds, plan.variation_seeds, [plan.variation] * len(plan.seeds))


def guided(model: LatentModel, plan: Plan) -> tuple[Denoise[Conditioning], Tensor | None]:
    """The denoiser that follows the guidance scale, and the w that is left for the network to embed."""
    w = w_from_guidance_scale(plan.guidance_scale)
    denoise: Denoise[Conditioning] = model.denoise
    if plan.window is not None:
        denoise = Tiled(denoise, plan.window, model.window)
    if model.profile.guidance.embedded:
        return denoise, torch.full((len(plan.seeds),), w, device=model.device)
    if w == 0.0:
        return denoise, None
    negative = model.encode_negative(plan.negative_prompt, plan.lora_weights)
    uncond = model.conditioned(negative, plan.height, plan.width, plan.controls, away=True)
    return ClassifierFreeGuidance(denoise, uncond.expand(len(plan.seeds)), w), None


def decoded(model: LatentModel, plan: Plan, latents: Tensor) -> Tensor:
    """Latents to pixels (B, 3, H, W); outside of a mask, the picture that was given."""
    pixels = model.at(plan.precision, plan.decoder).decode(latents)
    if plan.image is None or plan.mask is None:
        return pixels
    return composite(pixels, plan.image, plan.mask)
