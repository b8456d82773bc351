"""`/v1/live`: a WebSocket between a person and a `Session`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgpack
from pydantic import ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fewstep.errors import FewstepError
from fewstep.server import protocol
from fewstep.server.addresses import is_loopback
from fewstep.server.controls import controls
from fewstep.server.engine import Engine
from fewstep.server.outbox import Outbox
from fewstep.server.parking import Parking
from fewstep.server.places import Places
from fewstep.server.protocol import (
    Cancel,
    Describe,
    Frame,
    FromClient,
    Hello,
    Picture,
    Ping,
    Pong,
    Set,
    Stats,
    Trouble,
)
from fewstep.server.scheduler import Busy, Lane
from fewstep.server.session import Session
from fewstep.server.wording import in_words

MESSAGES_PER_SECOND, BURST = 200.0, 400.0
STATS_EVERY = 1.0  # seconds
SHUTDOWN, MISTAKE, FULL, REPLACED = 1001, 1011, 1013, 4001

log = logging.getLogger(__name__)


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


@dataclass(eq=False)
class Connection:
    """A session's connection. `replaced` is set when its person has come back on another one, `over` when its session
    and its place are free, `failed` when that was our fault.
    """

    socket: WebSocket
    failed: bool = False
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class LiveDoor:
    """All live sessions of a server."""

    def __init__(self, engine: Engine, places: Places) -> None:
        self.engine, self._places = engine, places
        self.parking = Parking()
        self._connections: dict[str, Connection] = {}  # by the session's token

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one connection from its handshake to its end."""
        offered = socket.scope.get("subprotocols", [])
        form = protocol.MSGPACK if protocol.MSGPACK in offered else protocol.JSON
        await socket.accept(subprotocol=form if form in offered else None)
        session = await self._returning(socket.query_params.get("resume"))
        connection = Connection(socket)
        try:
            with self._places.one(socket.client.host if socket.client else "unknown") as lane:
                await self._serve(connection, session, lane, form == protocol.MSGPACK)
        except Busy as error:
            if session is not None:
                self.parking.put(session)
            await self._turn_away(socket, str(error), error.retry_after)
        finally:
            connection.over.set()
        with suppress(WebSocketDisconnect, RuntimeError):  # gone already
            if connection.failed:
                await socket.close(MISTAKE, "the server made a mistake")
            elif connection.replaced.is_set():
                await socket.close(REPLACED, "the session goes on over another connection")

    async def _returning(self, token: str | None) -> Session | None:
        """The session with this token, if there is one.

        A connection can be gone without the server's knowing (a phone that left its network): whoever shows the token
        has the session, and the older connection is closed.
        """
        if token is not None and (other := self._connections.get(token)) is not None:
            other.replaced.set()
            await other.over.wait()
        return self.parking.claim(token)

    async def _serve(self, connection: Connection, known: Session | None, lane: Lane, packed: bool) -> None:
        session, socket = known or Session(self.engine, lane), connection.socket
        outbox = Outbox()
        session.say, session.show, session.lane = outbox.say, outbox.show, lane
        session.local = _is_here(socket)
        outbox.say(self._hello(session, resumed=known is not None))
        session.go_on()
        self._connections[session.token] = connection
        tasks = [
            asyncio.create_task(work)
            for work in (
                _receive(socket, session, outbox, packed),
                _send(socket, outbox, packed),
                _report(session, outbox),
                session.run(),
                connection.replaced.wait(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self._connections[session.token]
            session.pause()
            self.parking.put(session)
        for failure in filter(None, (task.exception() for task in done)):
            connection.failed = True
            log.error("a live session failed", exc_info=failure)

    def _hello(self, session: Session, resumed: bool) -> Hello:
        first, models = self.engine.model.name, self.engine.models
        every = {name: controls(model, models) for name, model in models.items()}
        return Hello(
            session=session.token,
            resumed=resumed,
            newest=session.newest,
            model=first,
            parameters=session.parameters,
            controls=every[first],
            models=every,
        )

    async def _turn_away(self, socket: WebSocket, message: str, retry_after: float) -> None:
        trouble = Trouble(id=None, reason="busy", message=message, retry_after=retry_after)
        with suppress(WebSocketDisconnect, RuntimeError):  # gone before it was told
            await socket.send_text(trouble.model_dump_json())
            await socket.close(FULL, message[:120])

    async def close(self) -> None:
        """Say goodbye to everybody."""
        self.parking.clear()
        sockets = [connection.socket for connection in self._connections.values()]
        await asyncio.gather(
            *(socket.close(SHUTDOWN, "the server is shutting down") for socket in sockets), return_exceptions=True
        )


def _is_here(socket: WebSocket) -> bool:
    """Whether the other side is a page of this very machine: it was asked for by a name of this machine, and nobody
    passes it on.
    """
    origin = urlsplit(socket.headers.get("origin", "")).hostname
    passed_on = any(name in socket.headers for name in ("x-forwarded-for", "x-forwarded-host", "forwarded"))
    host = socket.client.host if socket.client else ""
    return is_loopback(host) and is_loopback(origin or "") and not passed_on


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
    """Statistics, every `STATS_EVERY` while they change."""
    before: Stats | None = None
    while True:
        await asyncio.sleep(STATS_EVERY)
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
            parsed = _parse(message, packed)
            id_ = getattr(parsed, "id", None)
            await _carry_out(parsed, session, outbox)
        except (FewstepError, ValidationError, ValueError, RecursionError) as error:
            text = in_words(error) if isinstance(error, ValidationError) else str(error)
            outbox.say(Trouble(id=id_, reason="invalid", message=text[:500]))


def _parse(message: Message, packed: bool) -> FromClient:
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


async def _carry_out(parsed: FromClient, session: Session, outbox: Outbox) -> None:
    match parsed:
        case Set():
            given = parsed.model_fields_set
            session.pictures.forget(image="image" in given, mask="mask" in given, controls="controls" in given)
            session.set(parsed.id, parsed.parameters)
        case Frame():
            if parsed.control is not None:
                await session.steer(parsed.id, parsed.control, parsed.data)
            else:
                await (session.inpaint if parsed.mask else session.frame)(parsed.id, parsed.data)
        case Cancel():
            session.cancel()
        case Describe():
            outbox.say(await asyncio.to_thread(session.describe, parsed))
        case Ping():
            outbox.say(Pong(id=parsed.id))
