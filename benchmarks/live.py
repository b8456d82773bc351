"""Live sessions against one server: pictures a second and key-to-picture latency, beside the usual design.

    python -m benchmarks.live                 (writes benchmarks/results/live.md)

The clients are a process of their own, over loopback. Every client is a person who changes the seed as soon as the last
picture came; in the row of the slider, one who changes it sixty times a second whatever comes: the newest counts,
and the latency of a picture is that of the change which it shows.

The rival is what most servers do: one lock around diffusers' own `LatentConsistencyModelPipeline`, prompt encoded each
time, JPEG by Pillow, behind the same WebSocket library. One runs after the other, with the
machine to itself.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import multiprocessing
import os
import platform
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import websockets
from websockets.typing import Subprotocol

from fewstep.cli.main import SPINS
from fewstep.cli.runtime import Runtime, run_by
from fewstep.models.loading import FAST
from fewstep.models.locating import STARTER, brings_fast_decoder
from fewstep.server.protocol import JSON, Picture, PictureKind

RESULTS = Path(__file__).parent / "results" / "live.md"
PROMPTS = ("a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot")
WARM_UP = 2.0
PATIENCE = 300.0  # seconds for a server to start: on a machine with other things to do, that takes a while
SESSIONS = (1, 2, 4, 8, 16)
SLIDES = 60  # changes a second: what a screen shows, and a hand sends


@dataclass(frozen=True)
class Measured:
    """Pictures a second of all clients together, latencies in ms; `worst_p95` is that of the client worst off."""

    per_second: float
    p50: float
    p95: float
    worst_p95: float

    @classmethod
    def of(cls, latencies: Sequence[Sequence[float]], seconds: float) -> Measured:
        """Of each client's latencies; a client may have had no picture at all, and then is infinitely badly off."""
        every = [latency for client in latencies for latency in client]
        worst = max(percentile(client, 95) for client in latencies)
        return cls(len(every) / seconds, percentile(every, 50), percentile(every, 95), worst)


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest rank; infinity where there is nothing."""
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1] if ordered else math.inf


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
    from diffusers import LatentConsistencyModelPipeline

    torch.set_num_threads(threads)
    folder = STARTER if model == "starter" else Path(model)
    pipeline = LatentConsistencyModelPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def paint(wish: dict[str, Any]) -> bytes:
        image = pipeline(
            wish["prompt"],
            num_inference_steps=wish["steps"],
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(wish["seed"]),
        ).images[0]
        image.save(file := io.BytesIO(), "JPEG", quality=90)
        return file.getvalue()

    async def main() -> None:
        lock = asyncio.Lock()

        async def one(connection: Any) -> None:
            async for message in connection:
                wish = json.loads(message)
                async with lock:
                    data = await asyncio.to_thread(paint, wish["parameters"])
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


class Manner(StrEnum):
    """How the first client behaves; the others always wait for their pictures."""

    PATIENT = "patient"  # the next change when the last picture came
    SLIDER = "slider"  # SLIDES changes a second, and looks at what comes
    FLOOD = "flood"  # a hundred a second, and nobody knows what comes


def clients(connection: Connection, port: int, count: int, steps: int, seconds: float, manner: Manner) -> None:
    """Runs in a process of its own; sends back every client's latencies in ms, or the exception that ended it."""

    async def one(number: int, ends: float) -> list[float]:
        latencies = []
        begins = ends - seconds
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/v1/live", subprotocols=[Subprotocol(JSON)], compression=None, max_size=None
        ) as live:
            if number == 0 and manner is not Manner.PATIENT:
                return await hasty(live, number, ends)
            id_ = 0
            while time.monotonic() < ends:
                started = time.monotonic()
                await live.send(wish(id_ := id_ + 1, number, steps))
                while True:
                    message = await live.recv()
                    if isinstance(message, bytes) and Picture.from_binary(message).id == id_:
                        break
                if started > begins:
                    latencies.append(1000 * (time.monotonic() - started))
        return latencies

    async def hasty(live: Any, number: int, ends: float) -> list[float]:
        latencies, sent = [], [0.0]

        async def look() -> None:
            async for message in live:
                if isinstance(message, bytes) and (started := sent[Picture.from_binary(message).id]) > ends - seconds:
                    latencies.append(1000 * (time.monotonic() - started))

        looking = asyncio.create_task(look())
        while time.monotonic() < ends:
            sent.append(time.monotonic())
            await live.send(wish(len(sent) - 1, number, steps))
            await asyncio.sleep(1 / SLIDES if manner is Manner.SLIDER else 0.01)
        looking.cancel()
        return latencies

    def wish(id_: int, number: int, steps: int) -> str:
        parameters = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": id_, "steps": steps}
        return json.dumps({"type": "set", "id": id_, "parameters": parameters})

    async def everybody() -> list[list[float]]:
        ends = time.monotonic() + WARM_UP + seconds
        return await asyncio.gather(*(one(number, ends) for number in range(count)))

    try:
        connection.send(asyncio.run(everybody()))
    except Exception as error:
        connection.send(error)


def measure(
    port: int, count: int, steps: int, seconds: float, *, manner: Manner = Manner.PATIENT, besides: bool = False
) -> Measured:
    """`besides`: of the clients beside the first alone."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=clients, args=(there, port, count, steps, seconds, manner)
    )
    process.start()
    there.close()  # so that a client that dies without a word is noticed
    told: list[list[float]] | Exception = here.recv()
    process.join()
    if isinstance(told, Exception):
        raise told
    return Measured.of(told[1:] if besides else told, seconds)


def main(
    model: Annotated[str, typer.Option(help="starter, or a folder with an LCM.")] = "starter",
    steps: Annotated[int, typer.Option(help="Steps of every picture.")] = 2,
    seconds: Annotated[float, typer.Option(help="How long each measurement lasts, after 2 s of warming up.")] = 8.0,
    threads: Annotated[int, typer.Option(help="Of torch.")] = torch.get_num_threads(),
) -> None:
    """Write the table: 1, 2, 4, 8, 16 sessions, the usual design beside, and a neighbour who floods."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as `fewstep serve` sets it; for both
    rows = [
        "| sessions | ours, pictures/s | p50 ms | p95 ms | usual, pictures/s | p50 ms | p95 ms | ratio |",
        "| --- |" + " --- |" * 7,
    ]
    with running(serve_usual, model, threads) as usual:
        theirs = [measure(usual, count, steps, seconds) for count in SESSIONS]
    with running(serve_ours, model, threads) as ours:
        for count, b in zip(SESSIONS, theirs, strict=True):
            a = measure(ours, count, steps, seconds)
            rows.append(
                f"| {count} | {a.per_second:.1f} | {a.p50:.0f} | {a.p95:.0f} | {b.per_second:.1f} | {b.p50:.0f} | "
                f"{b.p95:.0f} | {a.per_second / b.per_second if b.per_second else math.inf:.2f} |"
            )
            typer.echo(rows[-1])
        slider = measure(ours, 1, steps, seconds, manner=Manner.SLIDER)
        fair = measure(ours, 4, steps, seconds)
        flooded = measure(ours, 4, steps, seconds, manner=Manner.FLOOD, besides=True)
    text = "\n".join(
        [
            "# Live sessions",
            "",
            f"`python -m benchmarks.live --model {model} --steps {steps} --seconds {seconds:g} --threads {threads}`",
            f"on {platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}.",
            "Each server has the machine to itself, one after the other. Ours runs as `fewstep serve` does (with",
            "OpenVINO where it is installed, and the fast decoder where the model brings one), the usual design",
            "through diffusers, one request at a time.",
            "",
            *rows,
            "",
            f"One session whose slider is drawn ({SLIDES} changes a second, the newest counts): "
            f"{slider.per_second:.1f} pictures/s, p50 {slider.p50:.0f} ms, p95 {slider.p95:.0f} ms.",
            "",
            f"Four sessions: the worst p95 is {fair.worst_p95:.0f} ms. When one of the four floods (100 changes a "
            f"second), the worst p95 of the others is {flooded.worst_p95:.0f} ms, "
            f"{flooded.worst_p95 / fair.worst_p95:.2f} times that.",
            "",
        ]
    )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
