"""Masks at every door of the server, as its clients send them: its contract says what is painted anew."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image
from websockets.sync.client import connect

import fewstep
import masks
from fewstep.models.model import Model
from fewstep.server import protocol
from fewstep.server.protocol import Picture
from serving import Server

SIZE = 64
SOURCE = Image.new("RGB", (SIZE, SIZE), "red")
OPAQUE_OR_WHITE, TRANSPARENT = masks.opaque_or_white(SIZE), masks.transparent(SIZE)
HOW: dict[str, Any] = {"seed": 1, "width": SIZE, "height": SIZE}


def png(image: Image.Image) -> bytes:
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


@pytest.fixture(scope="module")
def wanted(student: Model) -> Image.Image:
    picture = fewstep.image2image(
        student, "a dog", SOURCE, mask=masks.left_half(SIZE), steps=1, strength=1, guidance_scale=8, **HOW
    )
    assert not close(picture.crop((0, 0, 24, SIZE)), SOURCE.crop((0, 0, 24, SIZE)))
    assert close(picture.crop((40, 0, SIZE, SIZE)), SOURCE.crop((40, 0, SIZE, SIZE)))
    return picture


@pytest.fixture
def webui(server: Server) -> Iterator[webuiapi.WebUIApi]:
    host, port = server.address.split(":")
    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="LCM", steps=1)
    yield api
    api.session.close()


@pytest.mark.parametrize("way", OPAQUE_OR_WHITE)
def test_for_a1111_s_client_opaque_or_white_is_painted(
    webui: webuiapi.WebUIApi, server: Server, wanted: Image.Image, way: str
) -> None:
    fields: dict[str, Any] = {"prompt": "a dog", "denoising_strength": 1, "cfg_scale": 8, **HOW}
    mask = opened(OPAQUE_OR_WHITE[way])
    if not way.startswith("16 bits"):  # which Pillow, and so this client, reads as 8 bits
        assert close(webui.img2img(images=[SOURCE], mask_image=mask, **fields).image, wanted)
    body = {
        **fields,
        "steps": 1,
        "init_images": [base64.b64encode(png(SOURCE)).decode()],
        "mask": base64.b64encode(OPAQUE_OR_WHITE[way]).decode(),
    }
    answer = httpx.post(f"{server.url}/sdapi/v1/img2img", json=body).json()
    assert close(opened(base64.b64decode(answer["images"][0])), wanted)


def test_a_mask_is_inverted_for_what_it_shows(webui: webuiapi.WebUIApi, wanted: Image.Image) -> None:
    hole = opened(TRANSPARENT["RGBA"])
    fields: dict[str, Any] = {"prompt": "a dog", "denoising_strength": 1, "cfg_scale": 8, **HOW}
    inverted = webui.img2img(images=[SOURCE], mask_image=hole, inpainting_mask_invert=1, **fields)
    assert close(inverted.image, wanted)


@pytest.mark.parametrize("way", TRANSPARENT)
def test_for_openai_s_client_the_transparent_part_is(server: Server, wanted: Image.Image, way: str) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        extra = {"seed": 1, "steps": 1, "strength": 1, "guidance_scale": 8}
        answer = client.images.edit(
            image=png(SOURCE),
            mask=TRANSPARENT[way],
            prompt="a dog",
            size=f"{SIZE}x{SIZE}",  # type: ignore[call-overload]
            extra_body=extra,
        )
    assert close(opened(base64.b64decode(answer.data[0].b64_json)), wanted)


@pytest.mark.parametrize("way", OPAQUE_OR_WHITE)
def test_live_opaque_or_white_is_painted(server: Server, wanted: Image.Image, way: str) -> None:
    parameters = {"prompt": "a dog", "steps": 1, "strength": 1, "guidance_scale": 8, "format": "png", **HOW}
    with connect(server.live, subprotocols=[protocol.JSON]) as socket:
        socket.send(json.dumps({"type": "set", "id": 1, "parameters": parameters}))
        socket.send(b"FSL1\0\0\0\0" + (2).to_bytes(4, "little") + png(SOURCE))
        socket.send(b"FSL1\1\0\0\0" + (3).to_bytes(4, "little") + OPAQUE_OR_WHITE[way])
        while True:
            received = socket.recv(timeout=30)
            if isinstance(received, bytes) and (picture := Picture.from_binary(received)).id == 3:
                break
    assert close(opened(picture.data), wanted)


@pytest.mark.parametrize("way", ["RGBA, black strokes", "I;16"])
def test_for_fal_s_door_opaque_or_white_is(server: Server, wanted: Image.Image, way: str) -> None:
    def url(data: bytes) -> str:
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"

    body = {
        "prompt": "a dog",
        "image_url": url(png(SOURCE)),
        "mask_url": url(OPAQUE_OR_WHITE[way]),
        "image_size": {"width": SIZE, "height": SIZE},
        "num_inference_steps": 1,
        "strength": 1,
        "guidance_scale": 8,
        "seed": 1,
        "format": "png",
    }
    answer = httpx.post(f"{server.url}/fal-ai/lcm/inpainting", json=body)
    picture = answer.json()["images"][0]["url"].partition(",")[2]
    assert close(opened(base64.b64decode(picture)), wanted)
