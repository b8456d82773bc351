"""fal's own clients, unchanged: PyPI's pointed at our server by FAL_RUN_HOST (it speaks HTTPS alone), and npm's."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from PIL import Image
from websockets.sync.client import connect

from fewstep.models.bundle import ModelBundle
from fewstep.server.certificate import self_signed
from fewstep.server.security import Access
from serving import Server, serving

CLIENT = """
import io, json, sys, fal_client
from PIL import Image
answer = fal_client.run("fal-ai/fast-lcm-diffusion", {"prompt": "a cat", "seed": 3})
sizes, seeds, errors = [], [], []
with fal_client.SyncClient().realtime("fal-ai/fast-lcm-diffusion", use_jwt=False, max_buffering=10) as connection:
    for seed in range(3):
        connection.send({"prompt": "a cat", "seed": seed, "num_inference_steps": 2, "request_id": str(seed)})
    for _ in range(3):
        result = connection.recv()
        sizes.append(Image.open(io.BytesIO(result["images"][0]["content"])).size)
        seeds.append([result["seed"], result["request_id"]])
    connection.send({"prompt": "a cat", "num_inference_steps": 0})
    try:
        connection.recv()
    except fal_client.client.RealtimeError as error:
        errors.append(str(error))
print(json.dumps({"url": answer["images"][0]["url"][:23], "seed": answer["seed"],
                  "sizes": sizes, "seeds": seeds, "errors": errors}))
"""


@pytest.fixture(scope="module")
def secure(student: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    files = self_signed(tmp_path_factory.mktemp("certificate"), "127.0.0.1")
    with serving(student, certificate=files) as running:
        yield running, files[0]


def test_fal_client_works_unchanged(secure: tuple[Server, Path]) -> None:
    server, certificate = secure
    environment = {
        **os.environ,
        "FAL_RUN_HOST": server.address,
        "FAL_KEY": "id:secret",
        "SSL_CERT_FILE": str(certificate),
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", CLIENT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["url"] == "data:image/jpeg;base64,"
    assert told["seed"] == 3
    assert told["sizes"] == [[128, 128]] * 3
    assert told["seeds"] == [[0, "0"], [1, "1"], [2, "2"]]
    assert len(told["errors"]) == 1
    assert "num_inference_steps" in told["errors"][0]


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


def test_the_npm_client_works_unchanged(node_modules: Path, student: ModelBundle) -> None:
    token = "a-long-secret"
    with serving(student, Access.of("127.0.0.1", token)) as guarded:
        command = ["node", "fal_client.mjs", guarded.address, token]
        done = subprocess.run(command, cwd=node_modules, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [(each["request"], each["seed"], each["width"]) for each in told["results"]] == [
        ("0", 0, 128),
        ("1", 1, 128),
        ("2", 2, 128),
    ]
    assert all(each["jpeg"] == [0xFF, 0xD8] for each in told["results"])
    assert "num_inference_steps" in told["error"]


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


@pytest.mark.parametrize("message", ["{", "[]", "null", {"prompt": 5}, [], {"seed": -1}])
def test_nonsense_is_answered_and_the_connection_lives(server: Server, message: Any) -> None:
    bad, good = converse(server, message, {"prompt": "x", "request_id": "r"}, answers=2)
    assert bad["type"] == "x-fal-error"
    assert good["request_id"] == "r"
