"""A long, hard day: 32 clients that come, change their minds, break off and come back; then the server's memory.

    make soak                                 (30 minutes; writes benchmarks/results/soak.md)
    python -m benchmarks.soak --minutes 2

Every wish that a client stays for must end: in its picture, in an error with a reason, or superseded by the client's
own next one. The resident memory after the first fifth is compared with that at the end.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import websockets
from PIL import Image

from benchmarks.live import PROMPTS, running, serve_ours
from fewstep.server.protocol import JSON, Picture, PictureKind

RESULTS = Path(__file__).parent / "results" / "soak.md"
PATIENCE = 30.0


class Tally:
    def __init__(self) -> None:
        self.wishes = self.pictures = self.errors = self.connections = 0
        self.lost: list[str] = []


def frame(choose: random.Random) -> bytes:
    colour = tuple(choose.randrange(256) for _ in range(3))
    Image.new("RGB", (128, 128), colour).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


async def one(port: int, number: int, ends: float, tally: Tally) -> None:
    """A client: short visits, each with some wishes; the last wish of each is waited for, unless it breaks off."""
    choose = random.Random(number)
    while time.monotonic() < ends:
        try:
            async with websockets.connect(
                f"ws://127.0.0.1:{port}/v1/live", subprotocols=[JSON], compression=None, max_size=None
            ) as live:
                tally.connections += 1
                await visit(live, choose, tally)
        except (websockets.ConnectionClosed, OSError) as error:
            tally.lost.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(choose.uniform(0, 0.5))


async def visit(live: Any, choose: random.Random, tally: Tally) -> None:
    last = 0
    for _ in range(choose.randrange(1, 12)):
        last += 1
        if choose.random() < 0.15:
            await live.send(b"FSL1\0\0\0\0" + last.to_bytes(4, "little") + frame(choose))
        else:
            parameters = {
                "prompt": f"{choose.choice(PROMPTS)} {choose.randrange(1000)}",
                "seed": choose.randrange(2**32),
                "steps": choose.choice([1, 2, 4]),
                "previews": choose.random() < 0.2,
            }
            await live.send(json.dumps({"type": "set", "id": last, "parameters": parameters}))
        tally.wishes += 1
        await asyncio.sleep(choose.expovariate(10))
    if choose.random() < 0.2:
        return  # breaks off
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await live.recv()
                if isinstance(message, str):
                    told = json.loads(message)
                    if told["type"] == "error":
                        tally.errors += 1
                        if told["id"] == last:
                            return
                    continue
                picture = Picture.from_binary(message)
                tally.pictures += picture.kind is PictureKind.PICTURE
                if picture.id == last and picture.kind is PictureKind.PICTURE:
                    return
    except TimeoutError:
        tally.lost.append(f"no picture within {PATIENCE:g} s")


def resident(port: int) -> float:
    """MiB of the process that listens there."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid).memory_info().rss / 2**20
    raise RuntimeError(f"nobody listens on {port}")


async def day(port: int, clients: int, seconds: float) -> tuple[Tally, list[float]]:
    tally, memory, ends = Tally(), [], time.monotonic() + seconds

    async def watch() -> None:
        while time.monotonic() < ends:
            await asyncio.sleep(seconds / 50)
            memory.append(resident(port))

    await asyncio.gather(watch(), *(one(port, number, ends, tally) for number in range(clients)))
    return tally, memory


def main(
    model: Annotated[str, typer.Option(help="starter, or a folder with an LCM.")] = "starter",
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    clients: Annotated[int, typer.Option(help="At once.")] = 32,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
) -> None:
    """Run it and write what happened."""
    with running(serve_ours, model, threads) as port:
        tally, memory = asyncio.run(day(port, clients, 60 * minutes))
    settled = memory[len(memory) // 5]
    growth = 100 * (memory[-1] / settled - 1)
    lines = [
        "# Soak",
        "",
        f"`python -m benchmarks.soak --model {model} --minutes {minutes:g} --clients {clients} --threads {threads}`",
        "",
        f"{tally.connections} connections, {tally.wishes} wishes, {tally.pictures} pictures seen by their clients, "
        f"{tally.errors} errors, {len(tally.lost)} wishes or connections lost.",
        "",
        f"Resident memory: {settled:.0f} MiB after a fifth of the time, {memory[-1]:.0f} MiB at the end "
        f"({growth:+.1f} %).",
        "",
        *(f"- {reason}" for reason in sorted(set(tally.lost))[:10]),
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines).rstrip() + "\n")
    typer.echo(RESULTS.read_text())


if __name__ == "__main__":
    typer.run(main)
