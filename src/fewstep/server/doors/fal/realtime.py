"""fal's realtime connections: msgpack maps in binary messages (or JSON in text) in, msgpack maps with bytes out.

Errors are JSON text of the type `x-fal-error`. A client that sends faster than pictures are generated loses the oldest
requests beyond `max_buffering`, or beyond 32 MiB of them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque

import msgpack
from pydantic import ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.server.doors.fal.accepted import Accepted
from fewstep.server.doors.fal.answers import Answer
from fewstep.server.doors.fal.fields import Input
from fewstep.server.engine import Engine
from fewstep.server.places import Places
from fewstep.server.scheduler import Busy, Lane
from fewstep.server.wording import in_words

IDLE_SECONDS = 60.0
MAX_BUFFERING = 60
MAX_BYTES = 32 * 2**20  # of the requests that wait, unless it is a single one


class Realtime:
    """The WebSocket endpoint; it says TIMEOUT and closes after `idle_seconds` without a request."""

    def __init__(self, engine: Engine, places: Places, idle_seconds: float = IDLE_SECONDS) -> None:
        self._engine, self._places, self._idle_seconds = engine, places, idle_seconds

    async def __call__(self, socket: WebSocket) -> None:
        """One connection: requests are answered in their order, the oldest dropped when too many wait."""
        await socket.accept()
        if socket.path_params["path"].rsplit("/", 1)[-1] not in ("realtime", "ws"):
            await _error(socket, "NOT_FOUND", "the realtime door of an application ends in /realtime")
            await socket.close(1008)
            return
        try:
            buffering = min(max(int(socket.query_params.get("max_buffering", MAX_BUFFERING)), 1), MAX_BUFFERING)
        except ValueError:
            await _error(socket, "INVALID_INPUT", "max_buffering must be a whole number")
            await socket.close(1008)
            return
        try:
            with self._places.one(socket.client.host if socket.client else "unknown") as lane:
                await self._converse(socket, lane, deque(maxlen=buffering))
        except Busy as busy:
            await _error(socket, "BUSY", f"{busy}; try again in {busy.retry_after:g} s")
            await socket.close(1013)
        except (WebSocketDisconnect, RuntimeError):  # gone while we were sending
            return

    async def _converse(self, socket: WebSocket, lane: Lane, waiting: deque[Message]) -> None:
        arrived = asyncio.Event()
        reader = asyncio.create_task(self._read(socket, waiting, arrived))
        writer = asyncio.create_task(self._answer(socket, lane, waiting, arrived))
        try:
            done, _ = await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, socket: WebSocket, waiting: deque[Message], arrived: asyncio.Event) -> None:
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), self._idle_seconds)
            except TimeoutError:
                await _error(socket, "TIMEOUT", "no inputs, reconnect when needed!")
                await socket.close(1000)
                return
            if message["type"] == "websocket.disconnect":
                return
            waiting.append(message)
            while len(waiting) > 1 and sum(map(_size, waiting)) > MAX_BYTES:
                waiting.popleft()
            arrived.set()

    async def _answer(self, socket: WebSocket, lane: Lane, waiting: deque[Message], arrived: asyncio.Event) -> None:
        while True:
            await arrived.wait()
            if not waiting:
                arrived.clear()
                continue
            try:
                answer = await self._generate(lane, _input(waiting.popleft()))
            except FewstepError as error:
                kind = "INVALID_INPUT" if isinstance(error, InvalidRequest) else "INTERNAL_ERROR"
                await _error(socket, kind, str(error))
            else:
                await socket.send_bytes(msgpack.packb(answer))

    async def _generate(self, lane: Lane, body: Input) -> Answer:
        started = time.perf_counter()
        accepted = await Accepted.of(self._engine, body)
        pictures = await self._engine.pictures(lane, accepted.order)
        return await accepted.answer(pictures, time.perf_counter() - started)


def _size(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or "")


def _input(message: Message) -> Input:
    try:
        data = message.get("bytes")
        fields = json.loads(message["text"]) if data is None else msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise InvalidRequest(f"the message is neither msgpack nor JSON: {error}") from error
    try:
        return Input.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(in_words(error)) from error


async def _error(socket: WebSocket, kind: str, reason: str) -> None:
    await socket.send_text(json.dumps({"type": "x-fal-error", "error": kind, "reason": reason}))
