"""fewstep's own door over HTTP, for `fewstep generate --server`: every field of a `Request`, and an answer in lines.

    POST /v1/paint   a JSON object (`GenerateRequest`); pictures in it are files in base64

The answer is JSON, a line for each piece of news (`application/x-ndjson`): first `{"advice": [...], "num_steps": n}`,
then `{"stepped": i}` for each step of picture i and `{"painted": i, "png": "<base64>"}` when it is done, in any order;
`{"error": "..."}` is the last line where something goes wrong on the way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Annotated, TypedDict

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from PIL.Image import Image
from pydantic import Field

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.pipelines.fields import FIELDS
from fewstep.pipelines.request import Control, Request
from fewstep.server.coding import Coding, decode, encode
from fewstep.server.doors.base import Door, Services
from fewstep.server.engine import Engine, GenerationFailed, Order
from fewstep.server.fields import Asked, Message, asking, served
from fewstep.server.job import Failed, Generated, Stepped


class Steering(Message):
    """A picture for one of the server's ControlNets."""

    image: str
    scale: float = Field(1.0, ge=0, le=FIELDS["controls"].high)


@asking
class GenerateRequest(Asked):
    """The arguments of `Request.of`, and the name of the model; None: as the model's card says."""

    prompt: Annotated[str, served("prompt")]
    model: str | None = Field(None, max_length=200)
    seed: Annotated[int | None, served("seed")] = None
    num_images: Annotated[int, served("num_images")] = 1
    image: str | None = None
    mask: str | None = None
    loras: Annotated[dict[str, float] | None, served("loras")] = None
    controls: Annotated[dict[str, Steering] | None, served("controls")] = None

    def request(self) -> Request:
        """Slow where there are pictures to decode: not for the loop. Raises `InvalidRequest`."""
        fields = self.model_dump(exclude={"model", "image", "mask", "controls"})
        image = None if self.image is None else _picture(self.image, "image")
        mask = None if self.mask is None else _picture(self.mask, "mask")
        controls = {
            name: Control(_picture(each.image, name), each.scale) for name, each in (self.controls or {}).items()
        }
        return Request.of(**fields, image=image, mask=mask, controls=controls or None)


class Begun(TypedDict):
    advice: list[str]
    num_steps: int


class StepDone(TypedDict):
    stepped: int


class PictureDone(TypedDict):
    painted: int
    png: str


class Broken(TypedDict):
    error: str


def router(services: Services) -> APIRouter:
    engine, routes = services.engine, APIRouter()

    @routes.post(
        "/v1/paint", name="paint", summary="Pictures by every option of fewstep generate, each as soon as it is done"
    )
    async def generate(body: GenerateRequest, http: HttpRequest) -> StreamingResponse:
        model = engine.named(body.model)
        order = await engine.order(await asyncio.to_thread(body.request), model)
        client = http.client.host if http.client else "unknown"
        return StreamingResponse(_lines(engine, client, order), media_type="application/x-ndjson")

    return routes


async def _lines(engine: Engine, client: str, order: Order) -> AsyncIterator[str]:
    yield _line({"advice": list(order.advice), "num_steps": sum(plan.num_steps for plan in order.plans)})
    try:
        with engine.lane(client) as lane, engine.submit(lane, order) as ticket:
            async for index, event in ticket:
                match event:
                    case Stepped():
                        yield _line({"stepped": index})
                    case Generated(pixels=pixels):
                        file = await asyncio.to_thread(encode, pixels, Coding("png"), order.chunks[index])
                        yield _line({"painted": index, "png": base64.b64encode(file).decode()})
                    case Failed():
                        raise GenerationFailed(event)
    except FewstepError as error:
        yield _line({"error": str(error)})


def _line(news: Begun | StepDone | PictureDone | Broken) -> str:
    return json.dumps(news) + "\n"


def _picture(data: str, what: str) -> Image:
    try:
        return decode(base64.b64decode(data, validate=True), what)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{what} is not base64: {error}") from error


DOOR = Door(
    name="fewstep",
    about="Every option of fewstep generate, answered in lines of JSON as it is generated.",
    prefixes=("/v1/paint",),
    router=router,
    rank=10,
)
