"""From fal's input to fal's output, for all of its doors: one call, a stream, the queue, a realtime connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.server.coding import MEDIA_TYPES, Coding, Format, encode
from fewstep.server.doors.fal.answers import Answer, Picture, Repeated
from fewstep.server.doors.fal.fields import Input
from fewstep.server.engine import Engine, Order
from fewstep.server.job import Pixels


@dataclass(frozen=True)
class Accepted:
    """An input that the engine has found to be possible: its order, the form of its pictures, and what the answer
    repeats of it. The input itself, which may hold files, is not kept.
    """

    order: Order
    form: Format
    repeated: Repeated

    @classmethod
    async def of(cls, engine: Engine, body: Input) -> Accepted:
        """Raises `InvalidRequest`. A model's name that is not ours means the first one: theirs are addresses."""
        model = engine.models.get(body.model_name or "", engine.model)
        order = await engine.order(await body.request(model), model)
        repeated: Repeated = {"prompt": body.prompt, "request_id": body.request_id}
        if body.ignored:
            repeated["ignored"] = body.ignored
        return cls(order, body.format, repeated)

    async def answer(self, pictures: Sequence[Pixels], seconds: float) -> Answer:
        """With the pictures' files as bytes, as realtime connections carry them; `seconds` were spent on them."""
        images = [await self.image(pixels, index) for index, pixels in enumerate(pictures)]
        answer: Answer = {
            "images": images,
            "seed": self.order.plans[0].seeds[0],
            "timings": {"inference": seconds},
            "has_nsfw_concepts": [False] * len(images),
            **self.repeated,
        }
        if self.order.advice:
            answer["advice"] = list(self.order.advice)
        return answer

    async def image(self, pixels: Pixels, index: int) -> Picture:
        """The picture of that number, or a preview of it."""
        chunks = self.order.chunks[index] if self.form == "png" else None
        content = await asyncio.to_thread(encode, pixels, Coding(self.form), chunks)
        height, width, _ = pixels.shape
        return {"content": content, "content_type": MEDIA_TYPES[self.form], "width": width, "height": height}
