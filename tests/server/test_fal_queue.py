"""fal's queue: what it keeps, for how long, and how long it lets a request wait."""

from __future__ import annotations

import asyncio
import gc
import io
import time
import weakref
from typing import Any

import httpx
import pytest
from PIL import Image

from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.server.doors.fal.accepted import Accepted
from fewstep.server.doors.fal.fields import Input
from fewstep.server.doors.fal.queue import START_WITHIN, Queue, patience
from fewstep.server.engine import Engine
from serving import Server


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("ended", ["COMPLETED", "cancelled"])
def test_of_what_is_done_only_the_answer_is_kept(student: Model, ended: str) -> None:
    """The picture that it started from is gone, however it ended; the limit in bytes does not count it."""

    async def scene() -> None:
        engine = Engine(student)
        queue = Queue(engine)
        wish = Input(prompt="x", image_bytes=png(), mask_bytes=png(), strength=0.5, num_inference_steps=4)
        accepted = await Accepted.of(engine, wish)
        plan = accepted.order.plans[0]
        held = [weakref.ref(plan.image), weakref.ref(plan.mask), weakref.ref(accepted)]
        request = await queue.submit("me", "fal-ai/lcm", accepted, START_WITHIN)
        del accepted, plan
        if ended == "cancelled":
            request.cancel()
        engine.start()
        await asyncio.wait((request.task,), timeout=30)
        until = time.monotonic() + 30
        while any(each() is not None for each in held) and time.monotonic() < until:
            await asyncio.sleep(0.05)  # the network's thread, too, lets go of it
            gc.collect()
        assert [each() for each in held] == [None] * 3
        assert ended in queue.find("fal-ai/lcm", request.id).status.values()
        await engine.stop()

    asyncio.run(scene())


def test_what_waits_keeps_no_files(student: Model) -> None:
    """Of an input with a picture in base64 only the picture as it will be generated over is kept."""

    async def scene() -> None:
        engine = Engine(student)
        wish = Input(prompt="x", image_bytes=png(), strength=0.5)
        held = weakref.ref(wish)
        accepted = await Accepted.of(engine, wish)
        del wish
        gc.collect()
        assert held() is None
        assert accepted.order.plans[0].image is not None

    asyncio.run(scene())


def test_a_server_that_ends_forgets_in_peace_what_it_was_making(student: Model) -> None:
    async def scene() -> None:
        queue = Queue(Engine(student))  # which never starts: the request waits
        accepted = await Accepted.of(queue._engine, Input(prompt="x"))
        request = await queue.submit("me", "fal-ai/lcm", accepted, START_WITHIN)
        mistakes: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
        request.task.cancel()
        await asyncio.wait((request.task,))
        await asyncio.sleep(0)
        assert request.num_bytes == 0
        assert mistakes == []

    asyncio.run(scene())


def test_a_mistake_of_the_server_is_not_told_to_its_clients(student: Model) -> None:
    async def scene() -> None:
        def checker(_: Image.Image) -> bool:
            raise RuntimeError("a secret of the server")

        engine = Engine(student, checker=checker)
        engine.start()
        queue = Queue(engine)
        request = await queue.submit("me", "fal-ai/lcm", await Accepted.of(engine, Input(prompt="x")), START_WITHIN)
        await asyncio.wait((request.task,), timeout=30)
        assert request.status["error"] == "the server made a mistake"
        assert request.status["error_type"] == "error"
        await engine.stop()

    asyncio.run(scene())


def test_a_request_s_own_id_is_short(server: Server) -> None:
    """It is kept with the answer."""
    answer = httpx.post(f"{server.url}/queue/fal-ai/lcm", json={"prompt": "x", "request_id": "x" * 201})
    assert answer.status_code == 422


def test_the_header_shortens_the_wait_for_the_start(server: Server) -> None:
    def handed(**headers: str) -> dict[str, Any]:
        wish = {"prompt": "x", "num_images": 8, "num_inference_steps": 4}
        told: dict[str, Any] = httpx.post(f"{server.url}/queue/fal-ai/lcm", json=wish, headers=headers).json()
        return told

    first, second = handed(), handed(**{"x-fal-request-timeout": "0.001"})
    for each in (first, second):
        while httpx.get(each["status_url"]).status_code == 202:
            time.sleep(0.01)
    assert "error" not in httpx.get(first["status_url"]).json()
    assert httpx.get(second["status_url"]).json()["error_type"] == "deadline"
    assert httpx.get(second["response_url"]).status_code == 504


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, START_WITHIN), ("0.5", 0.5), ("599", 599), ("86399", START_WITHIN)]
)
def test_nothing_waits_for_longer_than_is_said(header: str | None, seconds: float) -> None:
    assert patience(header) == seconds


@pytest.mark.parametrize("header", ["0", "-1", "nan", "soon", ""])
def test_a_wait_is_a_number_of_seconds(header: str) -> None:
    with pytest.raises(InvalidRequest, match="it must be a number of seconds"):
        patience(header)
