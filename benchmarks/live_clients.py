"""The clients of `benchmarks/live.py`, in a process of their own, and what they measure."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import websockets
from websockets.typing import Subprotocol

from fewstep.server.protocol import JSON, Picture

PROMPTS = ("a cat face", "a sleepy fox", "strawberry cake", "a blue heart", "a smiling sun", "sad robot")
WARM_UP = 2.0  # seconds before anything counts, or as long as is measured where that is shorter
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


class Manner(StrEnum):
    """How the first client behaves; the others always wait for their pictures."""

    PATIENT = "patient"  # the next change when the last picture came
    SLIDER = "slider"  # SLIDES changes a second, and looks at what comes
    FLOOD = "flood"  # a hundred a second, and nobody knows what comes


def clients(port: int, count: int, steps: int, seconds: float, manner: Manner) -> list[list[float]]:
    """Every client's latencies in ms."""

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
        ends = time.monotonic() + min(WARM_UP, seconds) + seconds
        return await asyncio.gather(*(one(number, ends) for number in range(count)))

    return asyncio.run(everybody())


def apart() -> ProcessPoolExecutor:
    """The process in which the clients run, for all measurements."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def measure(
    process: Executor,
    port: int,
    count: int,
    steps: int,
    seconds: float,
    *,
    manner: Manner = Manner.PATIENT,
    besides: bool = False,
) -> Measured:
    """`besides`: of the clients beside the first alone."""
    latencies = process.submit(clients, port, count, steps, seconds, manner).result()
    return Measured.of(latencies[1:] if besides else latencies, seconds)
