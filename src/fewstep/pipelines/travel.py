"""From one picture to the next: frames between prompts and seeds, on the arcs between their states and their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from fewstep.core.noise import NoiseBetween, slerp
from fewstep.errors import InvalidRequest
from fewstep.models.bundle import ModelBundle
from fewstep.models.conditioning import Conditioning
from fewstep.pipelines.pixels import to_images
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import MAX_PICTURES, Request
from fewstep.pipelines.text2image import OnStep, decoded, paint

if TYPE_CHECKING:
    from PIL.Image import Image

Stop = tuple[str, int]


@dataclass(frozen=True)
class Frame:
    """A place on the way: `fraction` of the leg from stop number `leg` to the next."""

    leg: int
    fraction: float


def travel(
    model: ModelBundle, stops: Sequence[Stop], frames: int = 24, *, on_step: OnStep | None = None, **options: Any
) -> list[Image]:
    """Paint `frames` pictures on the way through `stops`, (prompt, seed) each, the first and the last stop included.

    At a stop it is the picture that `text2image` paints. Between two prompts the text states, between two seeds the
    noise, move along an arc (slerp). `options` as for `text2image`. Raises `InvalidRequest`.
    """
    way = frames_on_the_way(len(stops), frames)
    request = Request(
        prompts=tuple(stops[frame.leg][0] for frame in way),
        seeds=tuple(stops[frame.leg][1] for frame in way),
        **options,
    )
    plan = complete(request, model)
    words = _equally_long([model.encode_prompts([prompt], plan.lora_weights) for prompt, _ in stops])
    images: list[Image] = []
    for batch in plan.batches():
        part = way[len(images) : len(images) + len(batch.seeds)]
        legs = [(stops[frame.leg][1], stops[frame.leg + 1][1], frame.fraction) for frame in part]
        cond = Conditioning.cat([between(words[f.leg], words[f.leg + 1], f.fraction) for f in part])
        with torch.inference_mode():
            for step in paint(model, batch, cond, NoiseBetween(*zip(*legs, strict=True))):
                if on_step is not None:
                    on_step(step)
            images += to_images(decoded(model, batch, step.x_t))
    return images


def frames_on_the_way(stops: int, frames: int) -> list[Frame]:
    """Places evenly spread over the legs between `stops`; raises `InvalidRequest`."""
    if stops < 2:
        raise InvalidRequest(f"{stops} stops were given; a way has at least two")
    if not stops <= frames <= MAX_PICTURES:
        raise InvalidRequest(f"{frames} frames for {stops} stops; give {stops} to {MAX_PICTURES}")
    legs = stops - 1
    places = [frame * legs / (frames - 1) for frame in range(frames)]
    return [Frame(leg := min(int(place), legs - 1), place - leg) for place in places]


def between(a: Conditioning, b: Conditioning, fraction: float) -> Conditioning:
    """The states of two prompts, one row each, on the arc from one to the other."""
    u = torch.tensor([fraction])
    pooled = None if a.pooled is None or b.pooled is None else slerp(a.pooled, b.pooled, u)
    return replace(a, states=slerp(a.states, b.states, u), pooled=pooled)


def _equally_long(words: Sequence[Conditioning]) -> list[Conditioning]:
    """The same, the shorter ones said over and over: attention to what is said twice is attention to it once."""
    length = math.lcm(*(cond.states.shape[1] for cond in words))
    return [replace(c, states=c.states.repeat(1, length // c.states.shape[1], 1)) for c in words]


def there_and_back(images: Sequence[Image]) -> list[Image]:
    """The frames of a loop: to the last and back, without stopping at either end."""
    return [*images, *reversed(images[1:-1])]
