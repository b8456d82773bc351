"""The engine: many paintings in one batch, each the picture that it would have been alone."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewstep
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.request import Request
from fewstep.server.engine import Engine, GenerationFailed
from fewstep.server.job import Event, Failed, Generated, Pixels, Reason, Stepped
from fewstep.server.scheduler import Busy, Lane

ROUNDING = 1  # a batch of another size rounds its sums differently; it moves no byte further


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 120))


@asynccontextmanager
async def running(model: Model, **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(model, **options)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        assert not engine.worker.alive


async def events_of(engine: Engine, lane: Lane, request: Request, **options: Any) -> list[Event]:
    with engine.submit(lane, await engine.order(request), **options) as ticket:
        return [event async for _, event in ticket]


def same(pixels: Pixels, image: Image.Image) -> bool:
    return int(np.abs(pixels.astype(int) - np.asarray(image, dtype=int)).max()) <= ROUNDING


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Requests of every kind that differ in everything."""
    choose = random.Random(0)
    for number in range(count):
        request: dict[str, Any] = {
            "prompt": f"{choose.choice(['a cat', 'a (dog:1.4)', 'the moon ' * 9, ''])} {choose.randrange(9)}",
            "seed": choose.randrange(10**6),
            "steps": choose.choice([1, 2, 4, 8]),
            "guidance_scale": choose.choice([3.0, 4.5, 8.0]),
        }
        if number % 3 == 0:
            colour = tuple(choose.randrange(256) for _ in range(3))
            request |= {"image": Image.new("RGB", (40, 30), colour), "strength": choose.choice([0.7, 0.9, 1.0])}
            request["steps"] = max(request["steps"], 2)  # one step of an ODE leaves no part of it to do
        if number % 6 == 0:
            mask = Image.new("L", (40, 30), 0)
            mask.paste(255, (10, 5, 30, 20))
            request["mask"] = mask
        if number % 5 == 0:
            request |= {"width": 32}
        yield request


def alone(model: Model, request: dict[str, Any]) -> Image.Image:
    paint = fewstep.image2image if "image" in request else fewstep.text2image
    return paint(model, **request)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_hundreds_of_interleaved_requests_give_the_pictures_made_alone(
    request: pytest.FixtureRequest, kind: str
) -> None:
    model: Model = request.getfixturevalue(kind)
    wanted = list(requests(200))
    painted: dict[int, Pixels] = {}
    samplers = random.Random(1)
    if kind == "teacher":
        wanted = [
            {**each, "sampler": samplers.choice(["ddim", "dpm++", "heun", "unipc", "lcm"])} for each in wanted[:60]
        ]

    async def client(engine: Engine, numbers: range) -> None:
        with engine.lane() as lane:
            for number in numbers:
                with engine.submit(lane, await engine.order(Request.of(**wanted[number]))) as ticket:
                    async for _, event in ticket:
                        if number % 7 == 0:
                            break  # walks away
                        if isinstance(event, Generated):
                            painted[number] = event.pixels

    async def everybody() -> None:
        async with running(model, max_batch=8) as engine:
            await asyncio.gather(*(client(engine, range(first, len(wanted), 25)) for first in range(25)))
            rows = engine.metrics.registry.get_sample_value("fewstep_batch_rows_count", {"call": "denoise"})
            total = engine.metrics.registry.get_sample_value("fewstep_batch_rows_sum", {"call": "denoise"})
        assert rows
        assert total
        assert total / rows > 2  # they did share, about 3 a batch: who meets whom is a matter of time

    run(everybody())
    assert set(painted) == {number for number in range(len(wanted)) if number % 7}
    wrong = [number for number, pixels in painted.items() if not same(pixels, alone(model, wanted[number]))]
    assert wrong == []


def test_the_newest_request_takes_the_place_of_those_that_wait(student: Model) -> None:
    async def scene() -> None:
        engine = Engine(student)
        with engine.lane() as lane:
            orders = [await engine.order(Request.of(word, seed=0)) for word in ("one", "two", "three")]
            tickets = [engine.submit(lane, order, latest_wins=True) for order in orders]
            engine.start()
            ends = [[event async for _, event in ticket][-1] for ticket in tickets]
            assert [getattr(event, "reason", None) for event in ends[:2]] == [Reason.SUPERSEDED] * 2
            last = ends[2]
            assert isinstance(last, Generated)
            assert same(last.pixels, fewstep.text2image(student, "three", seed=0))
        await engine.stop()

    run(scene())


@pytest.mark.slow
def test_a_flood_of_one_client_delays_no_other(student: Model) -> None:
    async def scene() -> None:
        order_of_ends: list[str] = []

        async def client(engine: Engine, name: str, pictures: int) -> None:
            with engine.lane() as lane:
                order = await engine.order(Request.of(name, seed=0, num_images=pictures))
                async for _, event in engine.submit(lane, order):
                    if isinstance(event, Generated):
                        order_of_ends.append(name)

        engine = Engine(student, max_batch=4)
        flood = asyncio.create_task(client(engine, "flood", 60))
        await asyncio.sleep(0.05)
        calm = [asyncio.create_task(client(engine, f"calm {number}", 3)) for number in range(3)]
        await asyncio.sleep(0.05)
        engine.start()
        await asyncio.gather(flood, *calm)
        await engine.stop()
        last = max(place for place, name in enumerate(order_of_ends) if name != "flood")
        assert len(order_of_ends) == 69
        assert order_of_ends[: last + 1].count("flood") <= 6  # a fair share: about as many as each of the others got

    run(scene())


def test_the_place_in_the_line_is_known_and_shrinks(student: Model) -> None:
    async def scene() -> None:
        engine = Engine(student)
        with engine.lane() as first, engine.lane() as second:
            tickets = [
                engine.submit(lane, await engine.order(Request.of("x", seed=0, num_images=count)))
                for lane, count in ((first, 3), (second, 2))
            ]
            scheduler, waiting = engine.scheduler, [ticket.jobs for ticket in tickets]
            assert [scheduler.position(job) for job in waiting[0]] == [1, 3, 4]
            assert [scheduler.position(job) for job in waiting[1]] == [1, 3]
            assert [ticket.position for ticket in tickets] == [1, 1]
            jobs = [*waiting[0], *waiting[1]]
            before = [scheduler.position(job) for job in jobs]
            (taken,) = scheduler.take(1)
            after = [scheduler.position(job) for job in jobs]
            assert all(new <= old for old, new in zip(before, after, strict=True))
            assert [job for job, place in zip(jobs, after, strict=True) if place == 0] == [taken]

    run(scene())


def test_every_step_is_told_with_a_preview_where_it_is_wanted(student: Model) -> None:
    async def scene() -> None:
        async with running(student) as engine:
            with engine.lane() as lane:
                shown = await events_of(engine, lane, Request.of("x", seed=3, steps=4), previews=True)
                plain = await events_of(engine, lane, Request.of("x", seed=3, steps=4))
        for events, previews in ((shown, True), (plain, False)):
            steps = [event for event in events if isinstance(event, Stepped)]
            assert [(step.index, step.num_steps) for step in steps] == [(0, 4), (1, 4), (2, 4)]
            assert all((step.preview is not None) == previews for step in steps)
        assert isinstance(shown[-1], Generated)
        first = shown[0]
        assert isinstance(first, Stepped)
        assert first.preview is not None
        assert first.preview.shape == shown[-1].pixels.shape

    run(scene())


def test_a_deadline_ends_a_job_in_words(student: Model) -> None:
    async def scene() -> None:
        async with running(student) as engine:
            with engine.lane() as lane:
                waiting = await events_of(engine, lane, Request.of("x", seed=0), deadline=-1.0)
                working = await events_of(engine, lane, Request.of("x", seed=0, steps=50), deadline=0.02)
                fine = await events_of(engine, lane, Request.of("x", seed=0))
        for events in (waiting, working):
            assert isinstance(events[-1], Failed)
            assert events[-1].reason is Reason.DEADLINE
        assert isinstance(fine[-1], Generated)

    run(scene())


def test_what_must_start_in_time_may_then_take_its_time(student: Model) -> None:
    """One picture after the other, and the first takes longer than either may wait for the start."""

    def slow(x_t: torch.Tensor, *rest: Any, **more: Any) -> Any:
        time.sleep(0.5)
        return student.network.module(x_t, *rest, **more)

    async def scene() -> None:
        wish = Request.of("x", seed=0, steps=1, num_images=2)
        engine = Engine(with_network(student, Calling(student.network.module, slow)), max_batch=1)
        with engine.lane() as lane:
            late = engine.submit(lane, await engine.order(wish), start_within=0.01)
            await asyncio.sleep(0.02)
            engine.start()
            assert {getattr(event, "reason", None) async for _, event in late} == {Reason.DEADLINE}
            events = await events_of(engine, lane, wish, start_within=0.4)
            assert [type(event) for event in events] == [Generated, Generated]
        await engine.stop()

    run(scene())


@dataclasses.dataclass
class Calling:
    """The network, but a call of it is a call of `call`."""

    unet: Any
    call: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unet, name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self.call(*arguments, **more)


class Poisoned:
    """The network, but a batch with the poisoned seed in it, or larger than `limit`, fails."""

    def __init__(self, unet: Any, *, marker: float | None = None, limit: int = 10**6) -> None:
        self.unet, self.marker, self.limit, self.calls = unet, marker, limit, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unet, name)

    def __call__(self, x_t: torch.Tensor, *rest: Any, **more: Any) -> Any:
        self.calls += 1
        if len(x_t) > self.limit:
            raise torch.OutOfMemoryError("no")
        if self.marker is not None and (x_t[:, 0, 0, 0] == self.marker).any():
            raise RuntimeError("a secret of the server")
        return self.unet(x_t, *rest, **more)


def with_network(model: Model, network: Any) -> Model:
    return dataclasses.replace(model, network=model.network.holding(network))


async def many(engine: Engine, seeds: range) -> dict[int, Event]:
    async def one(seed: int) -> tuple[int, Event]:
        with engine.lane() as lane:
            return seed, (await events_of(engine, lane, Request.of("x", seed=seed)))[-1]

    return dict(await asyncio.gather(*(one(seed) for seed in seeds)))


def test_a_row_that_breaks_the_network_breaks_alone(student: Model) -> None:
    marker = torch.randn(
        student.traits.latent_shape(*student.traits.default_size), generator=torch.Generator().manual_seed(3)
    )
    broken = with_network(student, Poisoned(student.network.module, marker=float(marker[0, 0, 0])))

    async def scene() -> None:
        async with running(broken) as engine:
            ends = await many(engine, range(9))
            again = await many(engine, range(10, 12))
        assert ends[3] == Failed(Reason.ERROR, "the server made a mistake")  # and not the secret
        for seed, event in {**ends, **again}.items():
            if seed != 3:
                assert isinstance(event, Generated)
                assert same(event.pixels, fewstep.text2image(student, "x", seed=seed))

    run(scene())


def test_a_batch_too_large_for_the_memory_is_halved(student: Model) -> None:
    network = Poisoned(student.network.module, limit=3)

    async def scene() -> None:
        async with running(with_network(student, network), max_batch=16) as engine:
            ends = await many(engine, range(12))
        assert all(isinstance(event, Generated) for event in ends.values())

    run(scene())
    assert network.calls > 0


def test_a_picture_too_large_for_the_memory_says_so(student: Model) -> None:
    async def scene() -> None:
        async with running(with_network(student, Poisoned(student.network.module, limit=0))) as engine:
            with engine.lane() as lane:
                with pytest.raises(GenerationFailed, match="does not fit into the memory") as caught:
                    await engine.pictures(lane, await engine.order(Request.of("x", seed=0)))
                assert caught.value.reason is Reason.ERROR

    run(scene())


def test_a_checker_withholds_what_it_does_not_like(student: Model) -> None:
    shown: list[tuple[int, int]] = []

    def odd_alone(image: Image.Image) -> bool:
        shown.append(image.size)
        return len(shown) % 2 == 1

    async def scene() -> None:
        async with running(student, checker=odd_alone) as engine:
            with engine.lane() as lane:
                events = await events_of(engine, lane, Request.of("x", seed=0, steps=4), previews=True)
        previews = [event.preview is not None for event in events if isinstance(event, Stepped)]
        assert previews == [True, False, True]
        assert isinstance(events[-1], Failed)
        assert events[-1].reason is Reason.WITHHELD
        assert len(shown) == 4

    run(scene())


def test_the_end_is_told_to_everybody(student: Model) -> None:
    async def scene() -> None:
        engine = Engine(student, max_batch=1)
        engine.start()
        ends = asyncio.create_task(many(engine, range(30)))
        await asyncio.sleep(0.05)
        await engine.stop()
        told = await ends
        painted = [event for event in told.values() if isinstance(event, Generated)]
        failed = [event for event in told.values() if isinstance(event, Failed)]
        assert len(painted) + len(failed) == 30
        assert {event.reason for event in failed} == {Reason.SHUTDOWN}
        with engine.lane() as lane, pytest.raises(GenerationFailed, match="shutting down"):
            await events_of(engine, lane, Request.of("x", seed=0))

    run(scene())


def test_what_does_not_fit_is_refused_at_once(student: Model) -> None:
    async def scene() -> None:
        engine = Engine(student, max_clients=2, max_waiting=3)
        with engine.lane(), engine.lane("a"), engine.lane("a") as shared:
            with pytest.raises(Busy, match="all 2 places are taken") as full, engine.lane("b"):
                pass
            assert full.value.retry_after > 0
            with pytest.raises(Busy, match="at most 3 may wait"):
                await events_of(engine, shared, Request.of("x", seed=0, num_images=4))
        with engine.lane("b"), engine.lane("c"):
            assert engine.scheduler.num_lanes == 2
        assert engine.scheduler.num_lanes == 0
        with pytest.raises(InvalidRequest):
            await engine.order(Request.of("x", width=13))

    run(scene())


def test_what_was_encoded_is_not_encoded_again(student: Model) -> None:
    async def scene() -> None:
        async with running(student) as engine:
            with engine.lane() as lane:
                for seed in range(5):
                    await events_of(engine, lane, Request.of("the same words", seed=seed))
            read = engine.metrics.registry.get_sample_value
            calls = read("fewstep_batch_rows_count", {"call": "encode_text"})
            kept = read("fewstep_prompt_bytes")
        assert calls == 1
        assert kept == student.encode_prompts(["the same words"]).nbytes

    run(scene())
