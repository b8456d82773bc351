"""The end of `fewstep serve`, as a process: whoever waits is told, nothing breaks off unsaid, and it is quick."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fewstep.models.model import Model
from serving import serving

pytestmark = pytest.mark.slow

LONG = {"prompt": "x", "steps": 50, "size": "512x512", "n": 4}  # many times as long as the end takes
FAL = {"prompt": "x", "num_inference_steps": 50, "image_size": {"width": 512, "height": 512}, "num_images": 4}
SDAPI = {"prompt": "x", "steps": 50, "width": 512, "height": 512, "batch_size": 4}
GONE = "the server is shutting down"


@contextmanager
def process(model: Path, log: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`fewstep serve` on a port of its own, and its address."""
    command = [sys.executable, "-m", "fewstep", "serve", "--model", str(model), "--port", "0", "--runtime", "pytorch"]
    with log.open("w") as errors:
        started = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )
    out: IO[str] = started.stdout  # type: ignore[assignment]
    with started, out:
        try:
            url = out.readline().strip().rstrip("/")
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with suppress(httpx.HTTPError):
                    httpx.get(f"{url}/readyz").raise_for_status()
                    break
                time.sleep(0.1)
            yield started, url
        finally:
            started.kill()


def half_a_body(url: str) -> socket.socket:
    """A POST whose body never ends."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /v1/images/generations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n\r\n{")
    return connection


def in_flight(url: str) -> dict[str, Callable[[], Any]]:
    """What clients do that wait for pictures; each returns what it was told in the end."""

    def post(path: str, body: dict[str, Any]) -> Callable[[], tuple[int, str]]:
        def asked() -> tuple[int, str]:
            answer = httpx.post(url + path, json=body, timeout=60)
            return answer.status_code, answer.json()["detail"]

        return asked

    def stream(method: str, path: str, body: dict[str, Any] | None) -> Callable[[], list[str]]:
        def asked() -> list[str]:
            with httpx.stream(method, url + path, json=body, timeout=60) as answer:
                return [line for line in answer.iter_lines() if line]

        return asked

    def live() -> int:
        with connect(f"{url.replace('http', 'ws')}/v1/live") as socket:
            socket.send(json.dumps({"type": "set", "parameters": {"prompt": "x", "width": 512, "height": 512}}))
            try:
                while True:
                    socket.recv(60)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 0

    status = httpx.post(f"{url}/queue/fal-ai/lcm", json=FAL).json()["status_url"].removeprefix(url)
    return {
        "openai": post("/v1/images/generations", LONG),
        "sdapi": post("/sdapi/v1/txt2img", SDAPI),
        "fal": post("/fal-ai/lcm", FAL),
        "openai's stream": stream("POST", "/v1/images/generations", LONG | {"stream": True, "partial_images": 3}),
        "fal's stream": stream("POST", "/fal-ai/lcm/stream", FAL),
        "fal's queue": stream("GET", f"{status}/stream", None),
        "live": live,
    }


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_who_waits_is_told_and_the_end_is_quick(
    miniature: Path, tmp_path: Path, how: signal.Signals, code: int
) -> None:
    told: dict[str, Any] = {}
    log = tmp_path / "stderr"
    with process(miniature, log) as (server, url), ExitStack() as stack:
        waiting = []
        for name, asks in in_flight(url).items():
            waiting.append(threading.Thread(target=lambda name=name, asks=asks: told.update({name: asks()})))
            waiting[-1].start()
        half = stack.enter_context(half_a_body(url))
        stack.enter_context(connect(f"{url.replace('http', 'ws')}/fal-ai/lcm/realtime")).send(json.dumps(FAL))
        time.sleep(1.5)
        began = time.monotonic()
        server.send_signal(how)
        assert server.wait(30) == code
        assert time.monotonic() - began < 5
        for each in waiting:
            each.join(5)
        answered = half.recv(65536)
    assert {name: told[name] for name in ("openai", "sdapi", "fal")} == dict.fromkeys(
        ("openai", "sdapi", "fal"), (503, GONE)
    )
    assert told["openai's stream"][-2] == "event: error"
    assert GONE in told["openai's stream"][-1]
    assert json.loads(told["fal's stream"][-1].removeprefix("data: "))["error"] == GONE
    assert json.loads(told["fal's queue"][-1].removeprefix("data: "))["error"] == GONE
    assert told["live"] in (1001, 1012)
    assert answered.startswith(b"HTTP/1.1 503 ")
    assert GONE.encode() in answered
    assert "Traceback" not in log.read_text()
    assert "terminate called" not in log.read_text()


def test_what_can_be_finished_is(student: Model) -> None:
    """A picture that takes less than the end does arrives; so does the last event of its stream."""
    kinds: list[str] = []
    begun = threading.Event()
    body = {"prompt": "x", "steps": 8, "size": "64x64", "stream": True, "partial_images": 3}

    def watch(url: str) -> None:
        with httpx.stream("POST", f"{url}/v1/images/generations", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kinds.append(line)
                    begun.set()

    with serving(student) as server:
        watching = threading.Thread(target=watch, args=(server.url,))
        watching.start()
        assert begun.wait(30)
    watching.join(10)
    assert kinds[-1] == "event: image_generation.completed"
