"""A long, hard day: 32 clients that come, change their minds, break off and come back; then the server's memory.

    make soak                                 (30 minutes; writes benchmarks/results/soak.md)
    python -m benchmarks.soak --minutes 3 --no-fill

What was promised: the last wish of every visit ends, in its picture or in an error with a reason; a picture shows the
seed that was asked for under its id; who breaks off and comes back finds the session, and the picture that was owed,
or reads in `newest` that the break has swallowed the wish and sends it again; who does not read for seconds still gets
the newest picture; nonsense is answered and hurts nobody; at the end no session and no request is left.

The day begins when the server keeps as many encoded prompts as it ever will (with `--no-fill`, at once). The resident
memory of the last fifth of the time is compared with that of the second fifth. Exit code 1 where a promise was broken
or it grew by 5 % or more.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import httpx
import psutil
import typer
import websockets
from PIL import Image
from websockets.typing import Subprotocol

from benchmarks import report
from benchmarks.live_clients import PROMPTS
from benchmarks.live_servers import running, serve_ours
from fewstep.server.protocol import JSON, Picture, PictureKind

PATIENCE = 75.0  # seconds for the last wish of a visit: by its own deadline of 60 the server has given an answer
DEAF = 3.0  # seconds without reading
MOST_GROWTH = 5.0  # percent
AT_ONCE = 32  # prompts to fill the caches with

NONSENSE = ("{", '{"type": "dance"}', '{"type": "set", "parameters": {"steps": 99}}', b"", b"FSL1\7" + bytes(40))


class Manner(StrEnum):
    """How a visit ends."""

    STAYS = "stays"  # waits for the picture of its last wish
    DEAF = "deaf"  # does so, but reads nothing for a while
    LEAVES = "leaves"  # breaks off and does not come back
    RETURNS = "returns"  # breaks off, comes back to its session and waits there
    RUDE = "rude"  # sends nonsense before it stays
    CALLS = "calls"  # asks over HTTP instead


@dataclass
class Tally:
    """What happened, and every promise that was not kept."""

    visits: Counter[Manner] = field(default_factory=Counter)
    wishes: int = 0
    pictures: int = 0
    errors: int = 0
    swallowed: int = 0  # wishes that a break took on the wire, and that were sent again
    broken: list[str] = field(default_factory=list)


def connect(port: int, resume: str = "", **options: Any) -> Any:
    query = f"?resume={resume}" if resume else ""
    return websockets.connect(
        f"ws://127.0.0.1:{port}/v1/live{query}",
        subprotocols=[Subprotocol(JSON)],
        compression=None,
        max_size=None,
        **options,
    )


class Visit:
    """One client's visit: its wishes by id, and what it has seen of them."""

    def __init__(self, port: int, choose: random.Random, tally: Tally) -> None:
        self.port, self.choose, self.tally = port, choose, tally
        self.seeds: dict[int, int] = {}  # asked for, by id; a frame keeps the one before
        self.seed = 0
        self.token = ""

    async def run(self, manner: Manner) -> None:
        self.tally.visits[manner] += 1
        if manner is Manner.CALLS:
            await self.call()
            return
        async with connect(self.port, max_queue=1 if manner is Manner.DEAF else 16) as live:
            self.token = json.loads(await live.recv())["session"]
            await self.ask(live, nonsense=manner is Manner.RUDE)
            if manner in (Manner.LEAVES, Manner.RETURNS):
                live.transport.abort()
            else:
                await asyncio.sleep(DEAF if manner is Manner.DEAF else 0)
                await self.wait(live, manner)
        if manner is Manner.RETURNS:
            await asyncio.sleep(self.choose.uniform(0, 2))
            async with connect(self.port, self.token) as live:
                hello = json.loads(await live.recv())
                if not hello["resumed"]:
                    self.tally.broken.append("a session was forgotten within two seconds")
                else:
                    if hello["newest"] != max(self.seeds):  # the break swallowed it: send it again, as a client must
                        self.tally.swallowed += 1
                        await self.again(live, max(self.seeds))
                    await self.wait(live, manner)

    async def ask(self, live: Any, *, nonsense: bool) -> None:
        for id_ in range(1, self.choose.randrange(2, 12)):
            if nonsense:
                await live.send(self.choose.choice(NONSENSE))
            if self.choose.random() < 0.15:
                await live.send(b"FSL1\0\0\0\0" + id_.to_bytes(4, "little") + frame(self.choose))
            else:
                await live.send(json.dumps({"type": "set", "id": id_, "parameters": self.parameters()}))
            self.seeds[id_] = self.seed
            self.tally.wishes += 1
            await asyncio.sleep(self.choose.expovariate(10))

    async def again(self, live: Any, id_: int) -> None:
        parameters = {**self.parameters(), "seed": self.seeds[id_]}
        await live.send(json.dumps({"type": "set", "id": id_, "parameters": parameters}))

    def parameters(self) -> dict[str, Any]:
        choose = self.choose
        self.seed = choose.randrange(2**32)
        return {
            "prompt": f"{choose.choice(PROMPTS)} {choose.randrange(1000)}",
            "seed": self.seed,
            "steps": choose.choice([1, 2, 4]),
            "previews": choose.random() < 0.2,
            "rest_steps": choose.choice([None, None, None, 8]),
            "budget_ms": choose.choice([None, None, None, 200]),
        }

    async def wait(self, live: Any, manner: Manner) -> None:
        """For what becomes of the last wish."""
        last, seen = max(self.seeds), 0
        try:
            async with asyncio.timeout(PATIENCE):
                async for message in live:
                    if isinstance(message, str):
                        told = json.loads(message)
                        self.tally.errors += told["type"] == "error"
                        if told["type"] == "error" and told["id"] == last:
                            return
                        continue
                    picture = Picture.from_binary(message)
                    seen = picture.id
                    if picture.seed != self.seeds.get(picture.id):
                        self.tally.broken.append(f"wish {picture.id} got a picture of another seed")
                    self.tally.pictures += picture.kind is PictureKind.PICTURE
                    if picture.id == last and picture.kind is not PictureKind.PREVIEW:
                        return
        except TimeoutError:
            self.tally.broken.append(
                f"{manner}: no picture of wish {last} within {PATIENCE:g} s, the last was of {seen}"
            )

    async def call(self) -> None:
        self.tally.wishes += 1
        wish = {"prompt": self.choose.choice(PROMPTS), "seed": self.choose.randrange(2**32), "steps": 2, "n": 2}
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            answer = await http.post(f"http://127.0.0.1:{self.port}/v1/images/generations", json=wish)
        if answer.status_code == 200:
            self.tally.pictures += len(answer.json()["data"])
        elif answer.status_code in (429, 504):  # full, or its deadline passed: said in words
            self.tally.errors += 1
        else:
            self.tally.broken.append(f"HTTP {answer.status_code}: {answer.text[:80]}")


def frame(choose: random.Random) -> bytes:
    colour = tuple(choose.randrange(256) for _ in range(3))
    Image.new("RGB", (128, 128), colour).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


async def client(port: int, number: int, ends: float, tally: Tally) -> None:
    """Short visits, one after another."""
    choose = random.Random(number)
    manners = [Manner.STAYS] * 4 + [Manner.RETURNS] * 2 + [Manner.DEAF, Manner.LEAVES, Manner.RUDE, Manner.CALLS]
    while time.monotonic() < ends:
        try:
            await Visit(port, choose, tally).run(choose.choice(manners))
        except (websockets.WebSocketException, httpx.HTTPError, OSError, TimeoutError) as error:
            tally.broken.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(choose.uniform(0, 0.5))


def resident(port: int) -> float:
    """MiB of the process that listens there."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid).memory_info().rss / 2**20
    raise RuntimeError(f"nobody listens on {port}")


async def gauges(http: httpx.AsyncClient) -> dict[str, float]:
    """The server's metrics that have no labels, by name."""
    lines = (await http.get("/metrics")).text.splitlines()
    return {
        name: float(value) for name, value in (line.split() for line in lines if "{" not in line and "#" not in line)
    }


async def fill(http: httpx.AsyncClient) -> None:
    """Ask for ever new prompts until the server keeps no more of them."""
    asked, size, before = 0, 0.0, -1.0
    while size > before:
        wishes = [{"prompt": f"{number} of everything", "steps": 1} for number in range(asked, asked + AT_ONCE)]
        answers = await asyncio.gather(*(http.post("/v1/images/generations", json=wish) for wish in wishes))
        for answer in answers:
            answer.raise_for_status()
        asked += AT_ONCE
        size, before = (await gauges(http))["fewstep_prompt_bytes"], size


async def left_over(http: httpx.AsyncClient) -> list[str]:
    """What the server still holds though everybody has gone."""
    await asyncio.sleep(5)
    left = [] if (await http.get("/readyz")).status_code == 200 else ["the server is not ready any more"]
    held = await gauges(http)
    return left + [
        f"{name} is {held[name]} after everybody has gone"
        for name in ("fewstep_sessions", "fewstep_waiting")
        if held[name]
    ]


async def day(port: int, clients: int, seconds: float, *, filled: bool = True) -> tuple[Tally, list[float]]:
    """What happened, and the resident memory over the time, in MiB."""
    tally, memory = Tally(), list[float]()

    async def watch(ends: float) -> None:
        while time.monotonic() < ends:
            await asyncio.sleep(seconds / 100)
            memory.append(resident(port))

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
        if filled:
            await fill(http)
        ends = time.monotonic() + seconds
        await asyncio.gather(watch(ends), *(client(port, number, ends, tally) for number in range(clients)))
        tally.broken += await left_over(http)
    return tally, memory


def main(
    model: Annotated[str, typer.Option(help="starter, or a folder with an LCM.")] = "starter",
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    clients: Annotated[int, typer.Option(help="At once.")] = 32,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
    fill: Annotated[bool, typer.Option(help="Begin when the server's caches are full.")] = True,
) -> None:
    """Run it and write what happened."""
    with running(serve_ours, model, threads) as port:
        tally, memory = asyncio.run(day(port, clients, 60 * minutes, filled=fill))
    fifth = len(memory) // 5
    before, after = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
    growth = 100 * (after / before - 1)
    tenths = [memory[number * len(memory) // 10 - 1] for number in range(1, 11)]
    visits = ", ".join(f"{count} {manner}" for manner, count in sorted(tally.visits.items()))
    lines = [
        f"{sum(tally.visits.values())} visits ({visits}), {tally.wishes} wishes, {tally.pictures} pictures seen by "
        f"their clients, {tally.errors} errors told, {tally.swallowed} wishes swallowed by a break and sent again, "
        f"{len(tally.broken)} promises broken.",
        "",
        f"Resident memory: {before:.0f} MiB in the second fifth of the time, {after:.0f} MiB in the last "
        f"({growth:+.1f} %). After each tenth: {', '.join(f'{each:.0f}' for each in tenths)} MiB.",
        "",
        *(f"- {count} times: {reason}" for reason, count in Counter(tally.broken).most_common(10)),
    ]
    line = report.command(
        "soak", model=model, minutes=f"{minutes:g}", clients=clients, threads=threads, no_fill=not fill
    )
    report.write("soak", line, title="Soak", text="\n".join(lines))
    typer.echo("\n".join(lines))
    raise typer.Exit(int(bool(tally.broken) or growth >= MOST_GROWTH))


if __name__ == "__main__":
    typer.run(main)
