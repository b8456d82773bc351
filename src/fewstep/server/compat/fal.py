"""fal's realtime protocol and its plain HTTP call, under any application's name: `/fal-ai/fast-lcm-diffusion/realtime`.

Requests are msgpack maps in binary messages (or JSON in text), answers are msgpack maps with the picture's bytes;
errors are JSON text of the type `x-fal-error`. A client that sends faster than pictures are painted loses the oldest
requests beyond `max_buffering`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections import deque
from typing import Any, Literal

import msgpack
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.models.bundle import ModelBundle
from fewstep.pipelines.request import MAX_SEED, Request
from fewstep.server.coding import MEDIA_TYPES, Coding, decode, encode
from fewstep.server.engine import Engine
from fewstep.server.presence import while_present
from fewstep.server.protocol import MAX_PROMPT, MAX_SIDE, MAX_STEPS
from fewstep.server.scheduler import Busy, Lane
from fewstep.server.wording import in_words

IDLE_SECONDS = 60.0
MAX_BUFFERING = 60
SIZES = {  # fal's names, as (width, height) in units of the model's own size
    "square_hd": (2.0, 2.0),
    "square": (1.0, 1.0),
    "portrait_4_3": (0.75, 1.0),
    "portrait_16_9": (0.5625, 1.0),
    "landscape_4_3": (1.0, 0.75),
    "landscape_16_9": (1.0, 0.5625),
}


class Size(BaseModel):
    width: int = Field(ge=8, le=MAX_SIDE)
    height: int = Field(ge=8, le=MAX_SIDE)


class Lora(BaseModel):
    """`path` is a name that the server knows; it fetches nothing and opens no paths."""

    path: str = Field(max_length=200)
    scale: float = 1.0


class Input(BaseModel):
    """What fal's LCM applications take; fields that mean nothing here come back in `ignored`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = Field("", max_length=MAX_PROMPT)
    negative_prompt: str = Field("", max_length=MAX_PROMPT)
    image_size: Size | str | None = None
    num_inference_steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    guidance_scale: float | None = None
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    num_images: int = Field(1, ge=1, le=8)
    format: Literal["jpeg", "png"] = "jpeg"
    sync_mode: bool = True
    request_id: str = ""
    image_url: str | None = None
    image_bytes: bytes | None = None
    mask_url: str | None = None
    mask_bytes: bytes | None = None
    strength: float | None = None
    model_name: str | None = None
    loras: list[Lora] = Field([], max_length=16)


_WITHOUT_EFFECT = {"enable_safety_checker", "enable_safety_checks", "expand_prompt"}


def router(engine: Engine, idle_seconds: float = IDLE_SECONDS) -> APIRouter:
    door, routes = Door(engine, idle_seconds), APIRouter(tags=["fal"])
    routes.add_api_websocket_route("/{owner}/{app}/{path:path}", door.realtime)
    for route in ("/{owner}/{app}", "/{owner}/{app}/image-to-image"):
        routes.add_api_route(route, door.run, methods=["POST"], summary="One request, one answer, as fal.run does it")
    return routes


class Door:
    def __init__(self, engine: Engine, idle_seconds: float) -> None:
        self.engine, self.idle_seconds = engine, idle_seconds

    async def run(self, owner: str, app: str, wanted: Input, http: HttpRequest) -> dict[str, Any]:
        """Pictures as data URLs."""
        client = http.client.host if http.client else "unknown"
        with self.engine.lane(client) as lane:
            answer = await while_present(http, self._paint(lane, wanted))
        for image in answer["images"]:
            data = base64.b64encode(image.pop("content")).decode()
            image["url"] = f"data:{image['content_type']};base64,{data}"
        return answer

    async def realtime(self, socket: WebSocket) -> None:
        """One connection: requests are answered in their order, the oldest dropped when too many wait."""
        await socket.accept()
        if socket.path_params["path"].rsplit("/", 1)[-1] not in ("realtime", "ws"):
            await _error(socket, "NOT_FOUND", "the realtime door of an application ends in /realtime")
            await socket.close(1008)
            return
        try:
            buffering = min(max(int(socket.query_params.get("max_buffering", MAX_BUFFERING)), 1), MAX_BUFFERING)
            with self.engine.lane() as lane:
                await self._converse(socket, lane, deque(maxlen=buffering))
        except Busy as busy:
            await _error(socket, "BUSY", f"{busy}; try again in {busy.retry_after:g} s")
            await socket.close(1013)
        except ValueError:
            await _error(socket, "INVALID_INPUT", "max_buffering must be a whole number")
            await socket.close(1008)
        except (WebSocketDisconnect, RuntimeError):  # gone while we were sending
            return

    async def _converse(self, socket: WebSocket, lane: Lane, waiting: deque[Any]) -> None:
        arrived = asyncio.Event()
        reader = asyncio.create_task(self._read(socket, waiting, arrived))
        painter = asyncio.create_task(self._answer(socket, lane, waiting, arrived))
        try:
            done, _ = await asyncio.wait((reader, painter), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, painter):
                task.cancel()
            await asyncio.gather(reader, painter, return_exceptions=True)

    async def _read(self, socket: WebSocket, waiting: deque[Any], arrived: asyncio.Event) -> None:
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), self.idle_seconds)
            except TimeoutError:
                await _error(socket, "TIMEOUT", "no inputs, reconnect when needed!")
                await socket.close(1000)
                return
            if message["type"] == "websocket.disconnect":
                return
            waiting.append(message)
            arrived.set()

    async def _answer(self, socket: WebSocket, lane: Lane, waiting: deque[Any], arrived: asyncio.Event) -> None:
        while True:
            await arrived.wait()
            if not waiting:
                arrived.clear()
                continue
            try:
                answer = await self._paint(lane, _input(waiting.popleft()))
            except FewstepError as error:
                kind = "INVALID_INPUT" if isinstance(error, InvalidRequest) else "INTERNAL_ERROR"
                await _error(socket, kind, str(error))
            else:
                await socket.send_bytes(msgpack.packb(answer))

    async def _paint(self, lane: Lane, wanted: Input) -> dict[str, Any]:
        started = time.perf_counter()
        model = self.engine.models.get(wanted.model_name or "", self.engine.model)
        order = await self.engine.order(await self._request(wanted, model), model)
        pictures = await self.engine.pictures(lane, order)
        painted = time.perf_counter()
        coding = Coding(wanted.format)
        images = []
        for pixels, chunks in zip(pictures, order.chunks, strict=True):
            content = await asyncio.to_thread(encode, pixels, coding, chunks if wanted.format == "png" else None)
            height, width, _ = pixels.shape
            images.append(
                {"content": content, "content_type": MEDIA_TYPES[wanted.format], "width": width, "height": height}
            )
        ignored = sorted(str(name)[:40] for name in (wanted.model_extra or {}) if name not in _WITHOUT_EFFECT)
        return {
            "images": images,
            "seed": order.plans[0].seeds[0],
            "timings": {"inference": painted - started},
            "has_nsfw_concepts": [False] * len(images),
            "prompt": wanted.prompt,
            "request_id": wanted.request_id,
            **({"ignored": ignored[:20]} if ignored else {}),
            **({"advice": list(order.advice)} if order.advice else {}),
        }

    async def _request(self, wanted: Input, model: ModelBundle) -> Request:
        width, height = _size(wanted.image_size, model)
        image = await _picture(wanted.image_bytes, wanted.image_url, "image")
        mask = await _picture(wanted.mask_bytes, wanted.mask_url, "mask")
        return Request.of(
            wanted.prompt,
            wanted.seed,
            wanted.num_images,
            negative_prompt=wanted.negative_prompt,
            steps=wanted.num_inference_steps,
            guidance_scale=wanted.guidance_scale,
            width=width,
            height=height,
            image=image,
            mask=mask,
            strength=None if image is None else wanted.strength,
            loras={lora.path: lora.scale for lora in wanted.loras} or None,
        )


def _size(size: Size | str | None, model: ModelBundle) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    if isinstance(size, Size):
        return size.width, size.height
    if size not in SIZES:
        known = ", ".join(SIZES)
        raise InvalidRequest(f"image_size is {size[:40]!r}; it must be one of {known}, or a width and a height")
    (own_height, own_width), unit = model.default_size, model.pixels_per_latent
    across, down = SIZES[size]
    return round(across * own_width / unit) * unit, round(down * own_height / unit) * unit


def _input(message: dict[str, Any]) -> Input:
    try:
        data = message.get("bytes")
        fields = json.loads(message["text"]) if data is None else msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise InvalidRequest(f"the message is neither msgpack nor JSON: {error}") from error
    try:
        return Input.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(in_words(error)) from error


async def _picture(data: bytes | None, url: str | None, what: str) -> Image | None:
    if data is None and url is not None:
        data = _data_url(url, what)
    return None if data is None else await asyncio.to_thread(decode, data, f"the {what}")


def _data_url(url: str, what: str) -> bytes:
    kind, comma, data = url.partition(",")
    if not (kind.startswith("data:") and comma and kind.endswith(";base64")):
        raise InvalidRequest(f"{what}_url must be a data URL; this server fetches nothing from elsewhere")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{what}_url is not base64: {error}") from error


async def _error(socket: WebSocket, kind: str, reason: str) -> None:
    await socket.send_text(json.dumps({"type": "x-fal-error", "error": kind, "reason": reason}))
