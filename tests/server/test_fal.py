"""fal's own clients, unchanged: PyPI's pointed at our server by FAL_RUN_HOST (it speaks HTTPS alone), and npm's."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import msgpack
import pytest
from PIL import Image
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fewstep.models.model import Model
from fewstep.server.certificate import self_signed
from fewstep.server.doors.fal import queue, realtime
from fewstep.server.doors.fal.realtime import Realtime
from fewstep.server.engine import Engine
from fewstep.server.places import Places
from fewstep.server.security import Access
from serving import Server, serving

CLIENT = """
import asyncio, io, json, fal_client
from PIL import Image
APP, told = "fal-ai/fast-lcm-diffusion", {}
answer = fal_client.run(APP, {"prompt": "a cat", "seed": 3})
told["run"] = [answer["images"][0]["url"], answer["seed"]]

updates = []
answer = fal_client.subscribe(APP, {"prompt": "a cat", "seed": 3}, with_logs=True, on_queue_update=updates.append)
told["subscribe"] = [answer["images"][0]["url"], type(updates[-1]).__name__, updates[-1].metrics["inference_time"] > 0]

handle = fal_client.submit(f"{APP}/image-to-image", {"prompt": "a cat", "seed": 4,
    "image_url": fal_client.encode_image(Image.new("RGB", (64, 64), "red")), "strength": 0.6})
told["submit"] = [handle.get()["seed"], fal_client.result(APP, handle.request_id)["seed"],
                  type(fal_client.status(APP, handle.request_id)).__name__]
try:
    handle.cancel()
except fal_client.FalClientHTTPError as error:
    told["too late"] = str(error)

many = [fal_client.submit(APP, {"prompt": "x", "num_images": 8, "num_inference_steps": 8}) for _ in range(3)]
fal_client.cancel(APP, many[-1].request_id)
completed = many[-1].status()
told["cancelled"] = [type(completed).__name__, completed.error_type]
many[1].cancel()
try:
    many[-1].get()
except fal_client.FalClientHTTPError as error:
    told["no answer"] = error.status_code
try:
    fal_client.submit(APP, {"prompt": "x"}, webhook_url="https://example.org")
except fal_client.FalClientHTTPError as error:
    told["webhook"] = str(error)

events = list(fal_client.stream(APP, {"prompt": "a cat", "seed": 3, "num_inference_steps": 4}))
urls = [event["images"][0]["url"] for event in events]
told["stream"] = [[event.get("step") for event in events], urls[0] != urls[-1]]

async def again():
    client = fal_client.AsyncClient()
    answer = await client.subscribe(APP, {"prompt": "a cat", "seed": 3})
    steps = [event.get("step") async for event in client.stream(APP, {"prompt": "a cat", "num_inference_steps": 2})]
    return [answer["images"][0]["url"], steps]
told["async"] = asyncio.run(again())

told["realtime"] = []
with fal_client.SyncClient().realtime(APP, use_jwt=False, max_buffering=10) as connection:
    for seed in range(3):
        connection.send({"prompt": "a cat", "seed": seed, "num_inference_steps": 2, "request_id": str(seed)})
    for _ in range(3):
        result = connection.recv()
        size = Image.open(io.BytesIO(result["images"][0]["content"])).size
        told["realtime"].append([*size, result["seed"], result["request_id"]])
    connection.send({"prompt": "a cat", "num_inference_steps": 0})
    try:
        connection.recv()
    except fal_client.client.RealtimeError as error:
        told["error"] = str(error)
print(json.dumps(told))
"""
TOKEN = "a-long-secret"
# On machines whose resolver leaves names under localhost (RFC 6761) to others, as the one in the tests may.
RESOLVED = """
import socket
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **more: real("127.0.0.1" if host == "queue.localhost" else host, *rest, **more)
"""


@pytest.fixture(scope="module")
def secure(student: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    files = self_signed(tmp_path_factory.mktemp("certificate"), "127.0.0.1")
    with serving(student, Access.of("127.0.0.1", TOKEN), certificate=files) as running:
        yield running, files[0]


def by_fal_client(script: str, certificate: Path, **hosts: str) -> Any:
    """What a script prints in a process of its own, its client pointed at `hosts`."""
    told = {"FAL_KEY": TOKEN, "SSL_CERT_FILE": str(certificate), "NO_PROXY": "*", **hosts}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_fal_client_works_unchanged(secure: tuple[Server, Path]) -> None:
    server, certificate = secure
    queue = f"{server.address}/queue"
    told = by_fal_client(CLIENT, certificate, FAL_RUN_HOST=server.address, FAL_QUEUE_RUN_HOST=queue)
    picture = told["run"][0]
    assert picture.startswith("data:image/jpeg;base64,")
    assert told["run"] == [picture, 3]
    assert told["subscribe"] == [picture, "Completed", True]
    assert told["submit"] == [4, 4, "Completed"]
    assert told["too late"] == "it is completed already"
    assert told["cancelled"] == ["Completed", "cancelled"]
    assert told["no answer"] == 499
    assert "no webhooks" in told["webhook"]
    assert told["stream"] == [[1, 2, 3, None], True]
    assert told["async"] == [picture, [1, None]]
    assert told["realtime"] == [[128, 128, seed, str(seed)] for seed in range(3)]
    assert "num_inference_steps" in told["error"]


def test_one_variable_is_enough_where_names_under_localhost_lead_here(secure: tuple[Server, Path]) -> None:
    server, certificate = secure
    script = f"""{RESOLVED}
import fal_client, json
handle = fal_client.submit("fal-ai/lcm", {{"prompt": "a cat", "seed": 5}})
print(json.dumps([handle.status_url, handle.get()["seed"], fal_client.result("fal-ai/lcm", handle.request_id)["seed"]]))
"""
    port = server.address.rpartition(":")[2]
    url, *seeds = by_fal_client(script, certificate, FAL_RUN_HOST=f"localhost:{port}")
    assert url.startswith(f"https://queue.localhost:{port}/queue/fal-ai/lcm/requests/")
    assert seeds == [5, 5]


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds the client."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node here")
    folder = tmp_path_factory.mktemp("node")
    packages = ["@fal-ai/client@1.10.1", "ws@8.23.0"]
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"npm could not fetch the client: {done.stderr.strip()[:100]}")
    shutil.copy(Path(__file__).parent / "fal_client.mjs", folder)
    return folder


def test_the_npm_client_works_unchanged(node_modules: Path, guarded: Server) -> None:
    """Its calls by way of `proxyUrl`; only the realtime socket, whose host is built in, is led here by the test."""
    command = ["node", "fal_client.mjs", guarded.address, TOKEN]
    done = subprocess.run(command, cwd=node_modules, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    picture = told["run"]["url"]
    assert picture.startswith("data:image/jpeg;base64,")
    assert told["run"]["id"]
    assert told["polled"] == {"url": picture, "last": "COMPLETED"}
    assert told["streamed"] == {"url": picture, "last": "COMPLETED"}
    assert told["stream"] == {"steps": [1, None], "url": picture}
    assert told["cancelled"] == "cancelled"
    assert told["invalid"] == 422
    assert "data URL" in told["upload"]
    assert [(each["request"], each["seed"], each["width"]) for each in told["results"]] == [
        ("0", 0, 128),
        ("1", 1, 128),
        ("2", 2, 128),
    ]
    assert all(each["jpeg"] == [0xFF, 0xD8] for each in told["results"])
    assert "num_inference_steps" in told["error"]


@pytest.fixture(scope="module")
def guarded(student: Model) -> Iterator[Server]:
    with serving(student, Access.of("127.0.0.1", TOKEN)) as running:
        yield running


def test_a_pass_opens_its_application_alone_and_not_for_ever(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(path: str, shown: str) -> int:
        return httpx.post(f"{guarded.url}{path}?fal_jwt_token={shown}", json={"prompt": "x"}).status_code

    wish = {"allowed_apps": ["lcm"], "token_expiration": 120}
    assert httpx.post(f"{guarded.url}/tokens/", json=wish).status_code == 401
    key = {"authorization": f"Key {TOKEN}"}
    granted = httpx.post(f"{guarded.url}/tokens/", json=wish, headers=key).json()
    assert status("/fal-ai/lcm", granted) == 200
    assert status("/fal-ai/other", granted) == 401
    assert status("/v1/images/generations", granted) == 401
    for forged in ("", ".", "..", granted[:-1], granted.replace(".", "", 1), f"{granted}x", "e30.e30.", "é.é.é"):
        assert status("/fal-ai/lcm", forged) == 401
    with pytest.raises(InvalidStatus):
        connect(f"ws://{guarded.address}/fal-ai/lcm/realtime?fal_jwt_token={granted[:-1]}")
    with connect(f"ws://{guarded.address}/fal-ai/lcm/realtime?fal_jwt_token={granted}") as socket:
        socket.send(msgpack.packb({"prompt": "x", "seed": 9}))
        assert msgpack.unpackb(socket.recv(timeout=30))["seed"] == 9
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 121)
    assert status("/fal-ai/lcm", granted) == 401


@pytest.mark.slow
def test_what_waits_in_the_queue_knows_its_place(student: Model) -> None:
    """The second of two large requests: behind pictures of the first, then in the making, then done."""
    with serving(student, max_waiting=24) as alone, httpx.Client() as http:
        url = f"{alone.url}/queue/fal-ai/lcm"
        wish = {"prompt": "x", "num_images": 8, "num_inference_steps": 40}
        handed = [http.post(url, json=wish).json() for _ in range(2)]
        assert handed[1]["queue_position"] >= 4
        assert [http.post(url, json=wish).status_code for _ in range(3)][-1] == 429
        with http.stream("GET", f"{url}/requests/{handed[1]['request_id']}/status/stream") as lines:
            told = [json.loads(line.removeprefix("data: ")) for line in lines.iter_lines() if line]
        assert [each["status"] for each in told if each["status"] != "IN_QUEUE"] == ["IN_PROGRESS", "COMPLETED"]
        places = [each["queue_position"] for each in told if each["status"] == "IN_QUEUE"]
        assert places == sorted(places, reverse=True)
        assert http.get(handed[0]["response_url"]).status_code == 200
        assert http.get(handed[0]["response_url"].replace("fal-ai/lcm", "fal-ai/other")).status_code == 404


def test_the_newest_answers_are_kept_and_the_oldest_forgotten(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*handed: dict[str, Any]) -> list[int]:
        return [httpx.get(each["response_url"]).status_code for each in handed]

    def handed() -> dict[str, Any]:
        told: dict[str, Any] = httpx.post(f"{server.url}/queue/fal-ai/lcm", json={"prompt": "x"}).json()
        while httpx.get(told["status_url"]).status_code == 202:
            assert httpx.get(told["response_url"]).status_code in (200, 400)
        return told

    monkeypatch.setattr(queue, "KEPT_REQUESTS", 2)
    first, second, third = handed(), handed(), handed()
    assert answers(first, second, third) == [404, 200, 200]
    monkeypatch.setattr(queue, "KEPT_BYTES", 1)
    assert answers(second, third) == [404, 200]
    monkeypatch.setattr(queue, "KEPT_SECONDS", 0.0)
    assert answers(third) == [404]


@pytest.mark.parametrize("path", ["/v1/typo", "/v1/typo/stream", "/sdapi/v1", "/queue/v1/typo", "/fal/proxy"])
def test_a_misspelt_address_is_no_application(server: Server, path: str) -> None:
    assert httpx.post(server.url + path, json={"prompt": "x"}).status_code == 404


def converse(server: Server, *messages: Any, answers: int) -> list[Any]:
    with connect(f"ws://{server.address}/fal-ai/lcm/realtime") as socket:
        for message in messages:
            socket.send(message if isinstance(message, str) else msgpack.packb(message))
        told = [socket.recv(timeout=30) for _ in range(answers)]
    return [json.loads(each) if isinstance(each, str) else msgpack.unpackb(each) for each in told]


def test_a_picture_to_start_from_comes_as_bytes_or_as_a_data_url(server: Server) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    (raw,) = converse(server, {"prompt": "x", "image_bytes": file.getvalue(), "strength": 0.5, "seed": 1}, answers=1)
    assert raw["images"][0]["width"] == 128
    (none,) = converse(server, {"prompt": "x", "image_url": "https://example.org/x.png"}, answers=1)
    assert none["type"] == "x-fal-error"
    assert "fetches nothing" in none["reason"]


def test_text_is_json_and_sizes_have_names(server: Server) -> None:
    (wide,) = converse(server, json.dumps({"prompt": "x", "image_size": "landscape_4_3"}), answers=1)
    assert (wide["images"][0]["width"], wide["images"][0]["height"]) == (128, 96)
    (odd,) = converse(server, {"prompt": "x", "image_size": "gigantic"}, answers=1)
    assert "square_hd" in odd["reason"]


def test_large_requests_that_wait_give_way_to_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty of them would be a gigabyte."""

    class Socket:
        def __init__(self, *sizes: int) -> None:
            self.messages: list[dict[str, Any]] = [{"type": "websocket.receive", "bytes": bytes(n)} for n in sizes]

        async def receive(self) -> dict[str, Any]:
            return self.messages.pop(0) if self.messages else {"type": "websocket.disconnect"}

    def kept(*sizes: int) -> list[int]:
        waiting: deque[Any] = deque(maxlen=60)
        door = Realtime(cast(Engine, None), cast(Places, None))
        asyncio.run(door._read(cast(WebSocket, Socket(*sizes)), waiting, asyncio.Event()))
        return [len(message["bytes"]) for message in waiting]

    monkeypatch.setattr(realtime, "MAX_BYTES", 100)
    assert kept(40, 50, 30) == [50, 30]
    assert kept(40, 500) == [500]
    assert kept(*[1] * 70) == [1] * 60


@pytest.mark.parametrize("message", ["{", "[]", "null", {"prompt": 5}, [], {"seed": -1}])
def test_nonsense_is_answered_and_the_connection_lives(server: Server, message: Any) -> None:
    bad, good = converse(server, message, {"prompt": "x", "request_id": "r"}, answers=2)
    assert bad["type"] == "x-fal-error"
    assert good["request_id"] == "r"
