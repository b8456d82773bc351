"""From one picture to the next: frames between prompts and seeds, on the arcs between their states and their noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

import torch

from fewstep.core.noise import Noise, NoiseBetween, slerp
from fewstep.errors import InvalidRequest
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import FIELDS, Asked
from fewstep.pipelines.generate import OnStep, images_of
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.provenance import Travelled, describe
from fewstep.pipelines.request import Request
from fewstep.pipelines.text2image import requested

if TYPE_CHECKING:
    from PIL.Image import Image

Stop = tuple[str, int]


@dataclass(frozen=True)
class Frame:
    """A place on the way: `fraction` of the leg from stop number `leg` to the next."""

    leg: int
    fraction: float


@dataclass(frozen=True, eq=False)
class Way:
    """Frames through `stops`, planned: what `travel` makes pictures of."""

    model: LatentModel
    stops: Sequence[Stop]
    frames: Sequence[Frame]
    plan: Plan

    @classmethod
    def of(
        cls,
        model: LatentModel,
        stops: Sequence[Stop],
        frames: int,
        *,
        batch_size: int | None = None,
        **options: Unpack[Asked],
    ) -> Way:
        """Through prompts as people write them. Raises `InvalidRequest`."""
        if given := [name for name in ("seed", "variation", "variation_seed") if options.get(name) is not None]:
            raise InvalidRequest(f"the {given[0].replace('_', ' ')} of a way is in its stops: (prompt, seed) each")
        (request, *_) = requested([prompt for prompt, _ in stops] or [""], None, options)
        stops, _ = understood_stops(stops)
        return cls.through(model, stops, frames, request, batch_size)

    @classmethod
    def through(
        cls, model: LatentModel, stops: Sequence[Stop], frames: int, like: Request, batch_size: int | None = None
    ) -> Way:
        """Through prompts that are understood already, else as `like` asks. Raises `InvalidRequest`."""
        way = frames_on_the_way(len(stops), frames)
        prompts, seeds = zip(*(stops[frame.leg] for frame in way), strict=True)
        return cls(model, stops, way, complete(replace(like, prompts=prompts, seeds=seeds), model, batch_size))

    def generate_each(self, on_step: OnStep | None = None) -> Iterator[Image]:
        """The frames in their order, each with its parameters, as soon as its batch is done."""
        encode = self.model.encode_prompts
        model = self.model.at(self.plan.precision, self.plan.decoder)
        words = _equally_long([encode([prompt], self.plan.lora_weights) for prompt, _ in self.stops])

        def on_the_way(rows: range) -> tuple[Conditioning, Noise]:
            part = [self.frames[row] for row in rows]
            legs = [(self.stops[f.leg][1], self.stops[f.leg + 1][1], f.fraction) for f in part]
            cond = Conditioning.cat([between(words[f.leg], words[f.leg + 1], f.fraction) for f in part])
            return cond, NoiseBetween(*zip(*legs, strict=True))

        travelled = Travelled(tuple(self.stops), len(self.frames))
        for index, image in enumerate(images_of(model, self.plan, on_step, on_the_way)):
            frame = replace(travelled, frame=index)
            image.info.update(describe(model, self.plan, 0, frame))
            yield image

    def generate(self, on_step: OnStep | None = None) -> list[Image]:
        return list(self.generate_each(on_step))


def travel(
    model: LatentModel,
    stops: Sequence[Stop],
    frames: int = 24,
    *,
    on_step: OnStep | None = None,
    **options: Unpack[Asked],
) -> list[Image]:
    """Generate `frames` pictures on the way through `stops`, (prompt, seed) each, the first and the last stop included.

    At a stop it is the picture that `text2image` gives. Between two prompts the text states, between two seeds the
    noise, move along an arc (slerp). `options` as for `text2image`, without seed and variations. Raises
    `InvalidRequest`.
    """
    return Way.of(model, stops, frames, **options).generate(on_step)


def understood_stops(stops: Sequence[Stop]) -> tuple[list[Stop], Mapping[str, float]]:
    """Stops with their prompts as they are sampled, and the adapters that all of them name.

    Raises `InvalidRequest` where they name different ones.
    """
    words = [understood(prompt) for prompt, _ in stops]
    if any(each.loras != words[0].loras for each in words):
        raise InvalidRequest("the prompts of a way name different LoRAs; they must take as much of the same ones")
    return [(each.text, seed) for each, (_, seed) in zip(words, stops, strict=True)], words[0].loras if words else {}


def frames_on_the_way(stops: int, frames: int) -> list[Frame]:
    """Places evenly spread over the legs between `stops`; raises `InvalidRequest`."""
    if stops < 2:
        raise InvalidRequest(f"{stops} stops were given; a way has at least two")
    most = int(FIELDS["num_images"].high)
    if not stops <= frames <= most:
        raise InvalidRequest(f"{frames} frames for {stops} stops; give {stops} to {most}")
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
