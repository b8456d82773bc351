"""The two servers of `benchmarks/live.py`, each in a process of its own: ours, and the usual design."""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import websockets

from benchmarks.rival import painter
from fewstep.cli.runtime import Runtime, run_by
from fewstep.models.folder import brings_fast_decoder
from fewstep.models.loading import FAST
from fewstep.server.protocol import Picture, PictureKind

PATIENCE = 300.0  # seconds for a server to start: on a machine with other things to do, that takes a while


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def serve_ours(model: str, port: int, threads: int) -> None:
    import uvicorn

    import fewstep
    from fewstep.server.app import create_app
    from fewstep.server.engine import Engine

    torch.set_num_threads(threads)
    bundle = fewstep.load(model, device="cpu", vae=FAST if brings_fast_decoder(model) else None)
    app = create_app(Engine(run_by(Runtime.AUTO, bundle)))  # as `fewstep serve` does
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", ws_per_message_deflate=False)


def serve_usual(model: str, port: int, threads: int) -> None:
    """One lock, one request at a time, in a worker thread so that the event loop lives."""
    torch.set_num_threads(threads)
    paint = painter(model)

    def answer(wish: dict[str, Any]) -> bytes:
        image = paint(wish["prompt"], wish["steps"], wish["seed"])
        image.save(file := io.BytesIO(), "JPEG", quality=90)
        return file.getvalue()

    async def main() -> None:
        lock = asyncio.Lock()

        async def one(connection: Any) -> None:
            async for message in connection:
                wish = json.loads(message)
                async with lock:
                    data = await asyncio.to_thread(answer, wish["parameters"])
                await connection.send(
                    Picture(wish["id"], PictureKind.PICTURE, 1, 1, 0, 0.0, 0.0, 0.0, "jpeg", data).to_binary()
                )

        async with websockets.serve(one, "127.0.0.1", port, compression=None):
            await asyncio.Future()

    asyncio.run(main())


@contextmanager
def running(target: Any, model: str, threads: int) -> Iterator[int]:
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=target, args=(model, port, threads), daemon=True)
    server.start()
    until = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if not server.is_alive() or time.monotonic() > until:
            server.kill()
            raise RuntimeError(f"{target.__name__} did not start within {PATIENCE:g} s (exit code {server.exitcode})")
        time.sleep(0.2)
    try:
        yield port
    finally:
        server.terminate()
        server.join(10)
