"""The process that serves, and how it ends: nobody is left with half an answer, and no later than a few seconds on."""

from __future__ import annotations

import asyncio
import socket
from os import PathLike
from typing import TypedDict, Unpack

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.server.engine import Engine
from fewstep.server.refusing import refuse

PATIENCE = 2.5  # seconds that connections have to end: one more than the engine gives what is in the making


class Options(TypedDict, total=False):
    """Of uvicorn's, those that are somebody's choice."""

    host: str
    port: int
    ssl_certfile: str | PathLike[str] | None
    ssl_keyfile: str | PathLike[str] | None
    log_level: str
    ws: str
    ws_max_size: int


class Server(uvicorn.Server):
    """uvicorn's server for an app of `create_app`.

    By itself uvicorn stops the engine last, when it has waited for those who are served and cut them off. Here the
    engine stops at once: what is in the making is finished or fails, and whoever waits for it hears so in time.
    """

    def __init__(self, engine: Engine, app: ASGIApp, **options: Unpack[Options]) -> None:
        usual: Options = {"log_level": "warning", "ws_max_size": 16 * 2**20}
        config = uvicorn.Config(
            app,
            ws_per_message_deflate=False,  # pictures are compressed already
            timeout_graceful_shutdown=PATIENCE,  # type: ignore[arg-type]  # of whole seconds, it says, and takes all
            server_header=False,
            proxy_headers=False,  # the app reads them, and more of them (`Proxied`)
            **usual | options,
        )
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(self._engine.stop())
        await super().shutdown(sockets)
        await stopping


class Ending:
    """ASGI middleware, the outermost: who is cut off at the end gets 503, or no more of what was begun."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._engine.worker.stopping:
                raise
            if scope["type"] == "http" and not begun:
                await refuse(scope, receive, send, 503, "the server is shutting down")
