"""A1111's words and ours: its fields to our request, and what came of it to its `info`."""

from __future__ import annotations

import secrets
import time
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from fewstep.core.samplers import samplers_of
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import FIELDS, MAX_SEED, MAX_SIDE
from fewstep.pipelines.prompts import A1111, understood
from fewstep.pipelines.provenance import PARAMETERS
from fewstep.pipelines.request import Values
from fewstep.server.doors.sdapi import answers
from fewstep.server.engine import Order
from fewstep.server.fields import MAX_STEPS, served
from fewstep.server.nulls import NullIsAbsent

# A1111's names of our samplers, and what else its clients call them; others go by our name alone
TITLES = {"lcm": "LCM", "tcd": "TCD", "ddim": "DDIM", "dpm++": "DPM++ 2M", "heun": "Heun", "unipc": "UniPC"}
ALIASES = {"lcm": ["k_lcm"], "dpm++": ["k_dpmpp_2m"], "heun": ["k_heun"]}
# Fields that mean nothing here, with the values (besides none, zero and the empty ones) at which they ask for nothing:
# clients send all of them, as A1111 has them by default.
ASKS_NOTHING: dict[str, tuple[str | float, ...]] = {
    "seed_resize_from_h": (-1,),
    "seed_resize_from_w": (-1,),
    "do_not_save_samples": (True,),  # nothing is saved
    "do_not_save_grid": (True,),
    "eta": (1,),
    "s_noise": (1,),
    "scheduler": ("automatic", "Automatic"),
    "override_settings_restore_afterwards": (True,),
    "resize_mode": (1,),  # the picture is scaled and cropped
    "mask_blur": (4, 4.0),
    "mask_blur_x": (4,),
    "mask_blur_y": (4,),
    "mask_round": (True,),
    "inpainting_fill": (1,),  # what is under the mask is where it starts
    "inpaint_full_res": (True, 1),
    "inpaint_full_res_padding": (32,),
    "initial_noise_multiplier": (1,),
    "image_cfg_scale": (1.5,),
    "hr_checkpoint_name": ("Use same checkpoint",),
    "hr_sampler_name": ("Use same sampler",),
    "hr_scheduler": ("Use same scheduler",),
}
ONLY_WITH = {"hr_": "enable_hr", "refiner_": "refiner_checkpoint"}  # fields that mean nothing without another
DENOISING, HR_SCALE = 0.75, 2.0  # A1111's, where nobody says
SAME_UPSCALERS = ("", "None", "Latent", "Lanczos")  # A1111's default, which nobody chose, and what is done here


class ImageRequest(NullIsAbsent):
    """A1111's fields that mean something here; the others are accepted and, where they ask for something, warned of."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)  # the answer repeats them: they must be JSON

    prompt: Annotated[str, served("prompt")] = ""
    negative_prompt: Annotated[str, served("negative_prompt")] = ""
    seed: int = Field(-1, ge=-1, le=MAX_SEED)
    subseed: int = Field(-1, ge=-1, le=MAX_SEED)
    subseed_strength: Annotated[float, served("variation")] = 0
    sampler_name: str | None = None
    sampler_index: str | None = None
    batch_size: int = Field(1, ge=1, le=16)
    n_iter: int = Field(1, ge=1, le=16)
    steps: int | None = Field(None, ge=1, le=150)
    cfg_scale: float | None = Field(None, ge=0, le=100)
    width: Annotated[int | None, served("width")] = None
    height: Annotated[int | None, served("height")] = None
    denoising_strength: float | None = Field(None, ge=0, le=1)
    send_images: bool = True
    override_settings: dict[str, JsonValue] = Field(default_factory=dict)
    alwayson_scripts: dict[str, JsonValue] = Field(default_factory=dict)


class Txt2Img(ImageRequest):
    """With "hires fix": the picture is made larger, and refined by `denoising_strength`."""

    enable_hr: bool = False
    hr_scale: float | None = Field(None, ge=0, le=100)
    hr_resize_x: int | None = Field(None, ge=0, le=MAX_SIDE)
    hr_resize_y: int | None = Field(None, ge=0, le=MAX_SIDE)
    hr_second_pass_steps: int | None = Field(None, ge=0, le=150)
    hr_upscaler: str | None = None


class Img2Img(ImageRequest):
    init_images: list[str] = Field(min_length=1, max_length=1)
    include_init_images: bool = False
    mask: str | None = None
    inpainting_mask_invert: bool | int = False


class PngInfo(NullIsAbsent):
    image: str


def translate(body: ImageRequest, model: LatentModel) -> tuple[Values, list[str]]:
    """Our request's fields, and what of the client's could not be kept; raises `InvalidRequest` for a prompt that asks
    for what is not done here.
    """
    warnings: list[str] = []
    sampler = _sampler(body, model, warnings)
    here = model.loras.names if model.loras else ()
    prompt, negative = understood(body.prompt, A1111, here), understood(body.negative_prompt, A1111, negative=True)
    warnings += [*prompt.advice, *negative.advice]
    warnings += [f"{name} is not supported and was ignored" for name in _unsupported(body)]
    guidance = body.cfg_scale
    if guidance is not None:
        low, high = model.profile.guidance_range
        guidance = min(max(guidance, low), high)
        if guidance != body.cfg_scale:
            warnings.append(
                f"cfg_scale {body.cfg_scale:g} was moved to {guidance:g}: {model.name} knows {low:g} to {high:g}"
            )
    steps = _at_most(MAX_STEPS, body.steps, warnings)
    varied = body.subseed_strength > 0
    return {
        "num_images": body.batch_size * body.n_iter,
        "seed": None if body.seed == -1 else body.seed,
        "variation": body.subseed_strength if varied else None,
        "variation_seed": (secrets.randbelow(2**32) if body.subseed == -1 else body.subseed) if varied else None,
        "prompt": prompt.text,
        "negative_prompt": negative.text,
        "steps": steps,
        "guidance_scale": guidance,
        "width": body.width,
        "height": body.height,
        "sampler": sampler,
        "loras": prompt.loras or None,
    }, warnings


def upscaled(body: Txt2Img, model: LatentModel) -> tuple[Values, list[str]]:
    """The second round that "hires fix" asks for, and what of it could not be kept."""
    warnings: list[str] = []
    if not body.enable_hr:
        return {}, warnings
    own = model.traits.default_size
    height, width = body.height or own[0], body.width or own[1]
    most = FIELDS["upscale"].high
    across, down = body.hr_resize_x or 0, body.hr_resize_y or 0
    asked = max(across / width, down / height) or body.hr_scale or HR_SCALE
    scale = min(asked, most)
    unit = model.traits.pixels_per_latent
    size = tuple(round(side * scale / unit) * unit for side in (width, height))
    wide, high = across or round(width * asked), down or round(height * asked)
    if scale <= 1.0:
        return {}, ["enable_hr was ignored: the picture would not become larger"]
    if abs(size[0] - wide) > unit or abs(size[1] - high) > unit:
        warnings.append(
            f"{wide} x {high} became {size[0]} x {size[1]}: the shape stays, and at most {most:g} times the size"
        )
    if body.hr_upscaler not in (None, *SAME_UPSCALERS):
        warnings.append(f"hr_upscaler {body.hr_upscaler[:40]!r} is not here; Lanczos was used")
    strength = DENOISING if body.denoising_strength is None else body.denoising_strength
    steps = _at_most(MAX_STEPS, body.hr_second_pass_steps or None, warnings)
    return {"upscale": scale, "refine_strength": strength, "refine_steps": steps}, warnings


def _at_most(most: int, steps: int | None, warnings: list[str]) -> int | None:
    if steps is None or steps <= most:
        return steps
    warnings.append(f"{steps} steps were cut to {most}")
    return most


def _unsupported(body: ImageRequest) -> list[str]:
    """The fields that ask for something which this server does not do."""

    def asks(name: str, value: JsonValue) -> bool:
        condition = next((other for start, other in ONLY_WITH.items() if name.startswith(start)), None)
        if condition not in (None, name) and not getattr(body, condition, None):
            return False
        return bool(value) and value not in ASKS_NOTHING.get(name, ())

    return [name[:40] for name, value in (body.model_extra or {}).items() if asks(name, value)][:20]


def _sampler(body: ImageRequest, model: LatentModel, warnings: list[str]) -> str | None:
    name = body.sampler_name or body.sampler_index
    if name is None:
        return None
    usable = samplers_of(model.profile)
    known = {alias.lower(): ours for ours in usable for alias in (title_of(ours), *aliases_of(ours))}
    if name.lower() not in known:
        warnings.append(f"the sampler {name[:40]!r} is not for {model.name}; {usable[0]!r} was used")
    return known.get(name.lower(), usable[0])


def title_of(sampler: str) -> str:
    return TITLES.get(sampler, sampler)


def aliases_of(sampler: str) -> list[str]:
    return [*ALIASES.get(sampler, ()), sampler]


def describe(order: Order, body: ImageRequest, model: LatentModel, warnings: list[str]) -> answers.Info:
    """A1111's `info`."""
    plan, seeds = order.plans[0], [plan.seeds[0] for plan in order.plans]
    subseeds = [plan.variation_seeds[0] for plan in order.plans] if plan.variation else seeds
    over = plan.refinement or plan
    texts = [chunks[PARAMETERS] for chunks in order.chunks]
    return {
        "prompt": plan.prompts[0],
        "all_prompts": [each.prompts[0] for each in order.plans],
        "negative_prompt": plan.negative_prompt,
        "all_negative_prompts": [each.negative_prompt for each in order.plans],
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": plan.variation,
        "width": plan.width,
        "height": plan.height,
        "sampler_name": title_of(plan.sampler),
        "cfg_scale": plan.guidance_scale,
        "steps": plan.steps,
        "batch_size": body.batch_size,
        "denoising_strength": over.strength if plan.image is not None or plan.refinement is not None else 0,
        "sd_model_name": model.name,
        "sd_model_hash": model.origin.hash,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "clip_skip": 1,
        "index_of_first_image": 0,
        "extra_generation_params": {},
        "warnings": warnings,
    }
