"""`/v1/live`: a WebSocket between a person and a `Session`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import msgpack
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from fewstep.errors import FewstepError
from fewstep.server import protocol
from fewstep.server.engine import Engine
from fewstep.server.protocol import (
    Cancel,
    Frame,
    Hello,
    Picture,
    PictureKind,
    Ping,
    Pong,
    Set,
    Stats,
    ToClient,
    Trouble,
)
from fewstep.server.scheduler import Busy, Lane
from fewstep.server.session import Session, in_words

RESUME_SECONDS = 60.0
MAX_MESSAGES_WAITING = 256  # of text, for a reader that has stopped reading
MESSAGES_PER_SECOND, BURST = 200.0, 400.0
SHUTDOWN, MISTAKE, FULL = 1001, 1011, 1013

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Parked:
    """A session whose connection is gone, until `until`."""

    session: Session
    closing: ExitStack
    until: float


class Outbox:
    """What is on its way to one client: messages in order, and of pictures only the newest.

    A client that reads slowly gets fewer pictures, never older ones, and nobody else waits for it.
    """

    def __init__(self) -> None:
        self.messages: deque[ToClient] = deque()
        self.picture: Picture | None = None
        self.dropped = 0
        self._filled = asyncio.Event()

    def say(self, message: ToClient) -> None:
        if len(self.messages) < MAX_MESSAGES_WAITING:
            self.messages.append(message)
        self._filled.set()

    def show(self, picture: Picture) -> None:
        if self.picture is not None:
            self.dropped += 1
            if picture.kind is PictureKind.PREVIEW and self.picture.kind is not PictureKind.PREVIEW:
                return  # a finished picture is not given up for a preview
        self.picture = picture
        self._filled.set()

    async def take(self) -> ToClient | Picture:
        while True:
            if self.messages:
                return self.messages.popleft()
            if self.picture is not None:
                picture, self.picture = self.picture, None
                return picture
            self._filled.clear()
            await self._filled.wait()


@dataclass
class Allowance:
    """A token bucket: so many messages a second, with bursts."""

    rate: float = MESSAGES_PER_SECOND
    burst: float = BURST
    left: float = BURST
    at: float = field(default_factory=time.monotonic)

    def spend(self) -> bool:
        now = time.monotonic()
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class LiveDoor:
    """All live sessions of a server."""

    def __init__(self, engine: Engine, *, per_address: int = 16) -> None:
        self.engine, self.per_address = engine, per_address
        self._parked: dict[str, Parked] = {}
        self._addresses: dict[str, int] = {}
        self._open: set[WebSocket] = set()

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one connection from its handshake to its end."""
        offered = socket.scope.get("subprotocols", [])
        form = protocol.MSGPACK if protocol.MSGPACK in offered else protocol.JSON
        await socket.accept(subprotocol=form if form in offered else None)
        address = socket.client.host if socket.client else "unknown"
        if self._addresses.get(address, 0) >= self.per_address:
            await self._turn_away(socket, f"{self.per_address} sessions from one address are enough", 10.0)
            return
        self._addresses[address] = self._addresses.get(address, 0) + 1
        self._open.add(socket)
        try:
            await self._serve(socket, form == protocol.MSGPACK)
        finally:
            self._open.discard(socket)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    async def _serve(self, socket: WebSocket, packed: bool) -> None:
        try:
            session, closing, resumed = self._session(socket.query_params.get("resume"))
        except Busy as error:
            await self._turn_away(socket, str(error), error.retry_after)
            return
        outbox = Outbox()
        session.say, session.show = outbox.say, outbox.show
        first, models = self.engine.model.name, self.engine.models
        controls = {name: protocol.controls(model, models) for name, model in models.items()}
        outbox.say(
            Hello(
                session=session.token,
                resumed=resumed,
                model=first,
                parameters=session.parameters,
                controls=controls[first],
                models=controls,
            )
        )
        if resumed and session.last is not None:
            outbox.show(session.last)
        tasks = [
            asyncio.create_task(work)
            for work in (
                _receive(socket, session, outbox, packed),
                _send(socket, outbox, packed),
                _report(session, outbox),
                session.run(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for failure in filter(None, (task.exception() for task in done)):
                log.error("a live session failed", exc_info=failure)
                await socket.close(MISTAKE, "the server made a mistake")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._park(session, closing)

    def _session(self, token: str | None) -> tuple[Session, ExitStack, bool]:
        """The parked session with this token, or a new one. Raises `Busy`."""
        self._forget()
        if token is not None and (parked := self._parked.pop(token, None)) is not None:
            return parked.session, parked.closing, True
        closing = ExitStack()
        try:
            lane: Lane = closing.enter_context(self.engine.lane())
        except Busy:
            if not self._parked:
                raise
            self._forget(all_of_them=True)  # those who are here come before those who may come back
            lane = closing.enter_context(self.engine.lane())
        return Session(self.engine, lane), closing, False

    def _park(self, session: Session, closing: ExitStack) -> None:
        session.cancel()
        session.say, session.show = _ignore, _ignore
        self._parked[session.token] = Parked(session, closing, time.monotonic() + RESUME_SECONDS)
        asyncio.get_running_loop().call_later(RESUME_SECONDS + 1, self._forget)

    def _forget(self, all_of_them: bool = False) -> None:
        now = time.monotonic()
        for token in [token for token, parked in self._parked.items() if all_of_them or parked.until <= now]:
            self._parked.pop(token).closing.close()

    async def _turn_away(self, socket: WebSocket, message: str, retry_after: float) -> None:
        trouble = Trouble(id=None, reason="busy", message=message, retry_after=retry_after)
        await socket.send_text(trouble.model_dump_json())
        await socket.close(FULL, message[:120])

    async def close(self) -> None:
        """Say goodbye to everybody."""
        self._forget(all_of_them=True)
        await asyncio.gather(
            *(socket.close(SHUTDOWN, "the server is shutting down") for socket in list(self._open)),
            return_exceptions=True,
        )


def _ignore(_: object) -> None:
    return None


async def _send(socket: WebSocket, outbox: Outbox, packed: bool) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # gone while we were sending
        while True:
            thing = await outbox.take()
            if packed:
                fields = thing.to_map() if isinstance(thing, Picture) else thing.model_dump(mode="json")
                await socket.send_bytes(msgpack.packb(fields))
            elif isinstance(thing, Picture):
                await socket.send_bytes(thing.to_binary())
            else:
                await socket.send_text(thing.model_dump_json())


async def _report(session: Session, outbox: Outbox) -> None:
    """Statistics, once a second while they change."""
    before: Stats | None = None
    while True:
        await asyncio.sleep(1.0)
        stats = session.stats(outbox.dropped)
        if stats != before:
            before = stats
            outbox.say(stats)


async def _receive(socket: WebSocket, session: Session, outbox: Outbox, packed: bool) -> None:
    """Take messages until the client goes, or has earned to be sent away."""
    allowance, warned = Allowance(), 0.0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if not allowance.spend():
            if time.monotonic() - warned > 1:
                warned = time.monotonic()
                text = f"more than {MESSAGES_PER_SECOND:g} messages a second; some were ignored"
                outbox.say(Trouble(id=None, reason="too_fast", message=text, retry_after=1.0))
            continue
        id_ = None
        try:
            wish = _parse(message, packed)
            id_ = getattr(wish, "id", None)
            await _obey(wish, session, outbox)
        except (FewstepError, ValidationError, ValueError, RecursionError) as error:
            text = in_words(error) if isinstance(error, ValidationError) else str(error)
            outbox.say(Trouble(id=id_, reason="invalid", message=text[:500]))


def _parse(message: Mapping[str, Any], packed: bool) -> Set | Frame | Cancel | Ping:
    data = message.get("bytes")
    if data is None:
        return protocol.from_client.validate_python(json.loads(message["text"]))
    if not packed:
        return protocol.read_frame(data)
    try:
        fields = msgpack.unpackb(data, strict_map_key=True, max_str_len=100_000)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"the message is not msgpack: {error}") from error
    return protocol.from_client.validate_python(fields)


async def _obey(wish: Set | Frame | Cancel | Ping, session: Session, outbox: Outbox) -> None:
    match wish:
        case Set():
            given = wish.model_fields_set
            session.forget(image="image" in given, mask="mask" in given)
            session.set(wish.id, wish.parameters)
        case Frame():
            await (session.paint_inside if wish.mask else session.frame)(wish.id, wish.data)
        case Cancel():
            session.cancel()
        case Ping():
            outbox.say(Pong(id=wish.id))
