"""A real server on a real port, in a thread of the tests' process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.models.model import Model
from fewstep.server import process
from fewstep.server.app import create_app
from fewstep.server.engine import Engine
from fewstep.server.proxy import Proxy
from fewstep.server.security import Access


@dataclass(frozen=True)
class Server:
    engine: Engine
    address: str  # host:port
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def live(self) -> str:
        return f"ws://{self.address}/v1/live"


@contextmanager
def serving(
    model: Model,
    access: Access | None = None,
    certificate: tuple[Path, Path] | None = None,
    others: Sequence[Model] = (),
    port: int = 0,
    proxy: Proxy | None = None,
    **options: Any,
) -> Iterator[Server]:
    engine = Engine(model, *others, **options)
    files = {} if certificate is None else {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]}
    app = create_app(engine, access, proxy=proxy)
    server = process.Server(engine, app, log_level="error", ws_max_size=2**20, ws="websockets-sansio", **files)
    listening = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield Server(engine, f"127.0.0.1:{listening.getsockname()[1]}", "https" if certificate else "http")
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
        assert not engine.worker.alive
