"""What a live session asks of its model: its parameters and pictures as a `Request`, and how much work that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import meant, settings_of
from fewstep.pipelines.plan import Plan
from fewstep.pipelines.prompts import LIVE, understood
from fewstep.pipelines.request import Control, Request
from fewstep.server.budget import Effort
from fewstep.server.coding import Coding, encode
from fewstep.server.engine import Order
from fewstep.server.job import Generated, Pixels
from fewstep.server.pictures import Pictures
from fewstep.server.protocol import Parameters, Picture, PictureKind


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """One request of a session: `received` when, at which `version` of its state, and made into what order."""

    id: int
    received: float
    kind: PictureKind
    version: int
    order: Order

    async def picture(self, pixels: Pixels, coding: Coding, step: int, generated: Generated | None = None) -> Picture:
        """Its picture for the client; a preview of it, after `step`, while it is not `generated`."""
        plan = self.order.plans[0]
        chunks = self.order.chunks[0] if coding.format == "png" and generated else None
        data = await asyncio.to_thread(encode, pixels, coding, chunks)
        return Picture(
            id=self.id,
            kind=self.kind if generated else PictureKind.PREVIEW,
            step=step,
            num_steps=plan.steps,
            seed=plan.seeds[0],
            waited_ms=1000 * generated.waited if generated else 0.0,
            worked_ms=1000 * generated.worked if generated else 0.0,
            total_ms=1000 * (time.monotonic() - self.received),
            format=coding.format,
            data=data,
        )


def request_of(
    parameters: Parameters, pictures: Pictures, effort: Effort, model: LatentModel, models: Iterable[LatentModel]
) -> tuple[Request, list[str]]:
    """The request, without what belongs to something that is off (see `Parameters`), and what of its prompts cannot be
    honoured. What a prompt says of an adapter goes before what its slider says.

    models  all that the server has: scales for the ControlNets of another one are no mistake

    Raises `InvalidRequest`.
    """
    prompt = understood(parameters.prompt, LIVE, model.loras.names if model.loras else ())
    negative = understood(parameters.settings.negative_prompt, LIVE, negative=True)
    values = settings_of(parameters.settings) | {
        "negative_prompt": negative.text,
        "steps": effort.steps,
        "width": effort.width,
        "height": effort.height,
        "upscale": effort.upscale,
        "timesteps": parameters.timesteps,
        "variation_seed": parameters.variation_seed,
        "image": pictures.image,
    }
    if parameters.timesteps is not None:  # they say all that these say
        values |= {"steps": None, "strength": None}
    adapters = {**parameters.loras, **prompt.loras} or None
    controls = _controls(parameters.control_scales, pictures, model, models)
    request = Request.of(
        prompt.text, parameters.seed, mask=pictures.mask, loras=adapters, controls=controls, **meant(values)
    )
    return request, [*prompt.advice, *negative.advice]


def _controls(
    scales: dict[str, float], pictures: Pictures, model: LatentModel, models: Iterable[LatentModel]
) -> dict[str, Control] | None:
    """The pictures for this model's ControlNets; those for another model's wait until that one samples."""
    known = {name for each in models for name in each.steered_by}
    if unknown := sorted(set(scales) - known):
        loaded = f"loaded are {', '.join(sorted(known))}" if known else "this server has none"
        raise InvalidRequest(f"no ControlNet {unknown[0][:60]!r} here; {loaded}")
    steering = {name: pictures.controls[name] for name in model.steered_by if name in pictures.controls}
    return {name: Control(image, scales.get(name, 1.0)) for name, image in steering.items()} or None


def controlnet(model: LatentModel, which: str | int) -> str:
    """The name of a ControlNet of the model, given by its name or its place; raises `InvalidRequest`."""
    names = model.steered_by
    if which not in names and not (isinstance(which, int) and which < len(names)):
        loaded = f"loaded are {', '.join(names)}" if names else f"{model.name} has none loaded"
        raise InvalidRequest(f"no ControlNet {str(which)[:60]!r} here; {loaded}")
    return names[which] if isinstance(which, int) else which


def full_effort(parameters: Parameters, model: LatentModel, steps: int | None = None) -> Effort:
    """All that is asked for, in `steps` where those are given."""
    asked, (height, width) = parameters.settings, model.traits.default_size
    steps = steps or asked.steps or len(parameters.timesteps or ()) or model.profile.steps
    upscale = asked.upscale or 1.0
    refine_steps = (asked.refine_steps or steps) if upscale > 1 else 0
    return Effort(steps, asked.height or height, asked.width or width, upscale, refine_steps)


def effort_of(plan: Plan) -> Effort:
    """What a plan really takes."""
    second = 0 if plan.refinement is None else len(plan.refinement.timesteps)
    return Effort(len(plan.timesteps), plan.height, plan.width, plan.upscale or 1.0, second)
