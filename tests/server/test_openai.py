"""OpenAI's own client, unchanged, against our server."""

from __future__ import annotations

import base64
import io
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

import fewstep
from fewstep.models.model import Model
from fewstep.pipelines.provenance import record_of
from fewstep.server.security import Access
from serving import Server, serving


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def opened(b64: str | None) -> Image.Image:
    assert b64 is not None
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


def test_generations_are_our_pictures(client: openai.OpenAI, student: Model) -> None:
    answer = client.images.generate(
        prompt="a cat", n=2, size="32x32", model="gpt-image-1", extra_body={"seed": 5, "steps": 2}
    )
    assert answer.data is not None
    images = [opened(each.b64_json) for each in answer.data]
    wanted = fewstep.text2image(student, "a cat", seed=5, steps=2, num_images=2, width=32, height=32)
    assert all(close(a, b) for a, b in zip(images, wanted, strict=True))
    record = record_of(images[1])
    assert record is not None
    assert (record.prompt, record.seed, record.steps) == ("a cat", 6, 2)
    assert answer.size == "32x32"
    assert answer.output_format == "png"


@pytest.mark.parametrize(
    ("door", "body"),
    [
        ("v1/images/generations", {"prompt": "x", "n": 10, "steps": 50}),
        ("sdapi/v1/txt2img", {"prompt": "x", "batch_size": 10, "steps": 50, "width": 128, "height": 128}),
        ("fal-ai/lcm", {"prompt": "x", "num_images": 8, "num_inference_steps": 50}),
    ],
)
def test_who_hangs_up_is_painted_for_no_longer(server: Server, door: str, body: dict[str, Any]) -> None:
    def cancelled() -> float:
        return server.engine.metrics.registry.get_sample_value("fewstep_failed_total", {"reason": "cancelled"}) or 0.0

    before = cancelled()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/{door}", json=body, timeout=0.1)
    until = time.monotonic() + 30
    while server.engine.scheduler.num_lanes and time.monotonic() < until:
        time.sleep(0.01)
    assert server.engine.scheduler.num_lanes == 0
    assert cancelled() > before


@pytest.mark.parametrize("form", ["jpeg", "webp", "png"])
def test_the_format_is_the_one_asked_for(client: openai.OpenAI, form: Any) -> None:
    answer = client.images.generate(prompt="a cat", output_format=form, output_compression=80)
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).format == form.upper()


def test_the_newest_pictures_are_kept_and_of_large_ones_fewer(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def url() -> str:
        return str(client.images.generate(prompt="a cat", response_format="url").data[0].url)  # type: ignore[index]

    first, second = url(), url()
    assert [httpx.get(each).status_code for each in (first, second)] == [200, 200]
    monkeypatch.setattr("fewstep.server.doors.openai.kept.KEPT_BYTES", 1)
    third = url()
    assert [httpx.get(each).status_code for each in (first, second, third)] == [404, 404, 200]


def test_a_url_opens_by_itself_for_an_hour_where_a_token_is_needed(
    student: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("fewstep.server.doors.openai.kept.monotonic", lambda: now)
    token = "a-long-secret"
    with (
        serving(student, Access.of("0.0.0.0", token)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0) as client,
    ):
        answer = client.images.generate(prompt="a cat", response_format="url", size="32x32", extra_body={"seed": 1})
        url = str(answer.data[0].url)  # type: ignore[index]
        with urllib.request.urlopen(url) as response:  # as a browser does: it shows no token
            assert Image.open(io.BytesIO(response.read())).size == (32, 32)
        assert httpx.get(url.replace("/v1/", "/")).status_code == 200
        name = url.rpartition("/")[2]
        assert len(name) >= 32  # 24 random bytes
        for other in (name[:-5] + "~.png", "", ".", f"../../models?{name}", f"%2e%2e/%2e%2e/models?{name}"):
            assert httpx.get(url.replace(name, other)).status_code in (401, 404)
        assert httpx.post(url).status_code == 405
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        now += 3599
        assert httpx.get(url).status_code == 200
        now += 2
        assert httpx.get(url).status_code == 404


def test_a_url_gives_the_picture(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a cat", response_format="url")
    assert answer.data is not None
    url = answer.data[0].url
    assert url is not None
    assert url.startswith("http://127.0.0.1")
    with urllib.request.urlopen(url) as response:
        assert Image.open(io.BytesIO(response.read())).format == "PNG"


def test_edits_and_variations_start_from_a_picture(client: openai.OpenAI, student: Model) -> None:
    source, file = Image.new("RGB", (64, 64), "red"), io.BytesIO()
    source.save(file, "PNG")
    answer = client.images.edit(
        image=("red.png", file.getvalue(), "image/png"),
        prompt="a dog",
        extra_body={"seed": 1, "strength": 0.5},
    )
    assert answer.data is not None
    wanted = fewstep.image2image(student, "a dog", source, seed=1, strength=0.5)
    assert close(opened(answer.data[0].b64_json), wanted)
    with pytest.warns(DeprecationWarning, match="deprecated"):  # the client's own
        again = client.images.create_variation(
            image=("red.png", file.getvalue(), "image/png"), response_format="b64_json"
        )
    assert again.data is not None
    assert opened(again.data[0].b64_json).size == wanted.size


def test_the_transparent_part_of_a_mask_is_painted(client: openai.OpenAI, student: Model) -> None:
    source, file, hole = Image.new("RGB", (128, 128), "red"), io.BytesIO(), io.BytesIO()
    source.save(file, "PNG")
    mask = Image.new("RGBA", (128, 128), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 64, 128))
    mask.save(hole, "PNG")
    answer = client.images.edit(image=file.getvalue(), mask=hole.getvalue(), prompt="a dog", extra_body={"seed": 1})
    assert answer.data is not None
    ours = Image.new("L", (128, 128))
    ours.paste(255, (0, 0, 64, 128))
    assert close(opened(answer.data[0].b64_json), fewstep.image2image(student, "a dog", source, mask=ours, seed=1))
    with pytest.raises(openai.BadRequestError, match="no transparent part"):
        client.images.edit(image=file.getvalue(), mask=file.getvalue(), prompt="a dog")


def test_the_stream_shows_the_way_and_then_the_picture(client: openai.OpenAI, student: Model) -> None:
    stream = client.images.generate(
        prompt="a cat", stream=True, partial_images=2, extra_body={"seed": 3, "steps": 4}, output_format="png"
    )
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    assert close(opened(events[-1].b64_json), fewstep.text2image(student, "a cat", seed=3, steps=4))


def test_models(client: openai.OpenAI, student: Model) -> None:
    assert [model.id for model in client.models.list()] == [student.name]
    assert client.models.retrieve(student.name).owned_by == "fewstep"
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "13x13"}, "multiple of"),
        ({"size": "enormous"}, "must be WIDTHxHEIGHT"),
        ({"size": "99999x99999"}, "at most 4096"),
        ({"n": 11}, "n: Input should be less than or equal to 10"),
        ({"prompt": "x" * 2001}, "prompt: String should have at most 2000"),
        ({"extra_body": {"steps": 0}}, "steps"),
        ({"extra_body": {"colour": "blue"}}, "colour: Extra inputs are not permitted"),
        ({"extra_body": {"guidance_scale": 99}}, "was distilled for"),
        ({"extra_body": {"strength": 0.5}}, "without a picture"),
    ],
)
def test_what_cannot_be_done_is_said(client: openai.OpenAI, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        client.images.generate(**{"prompt": "a cat", **fields})


def test_a_field_without_meaning_is_named(server: Server) -> None:
    answer = httpx.post(f"{server.url}/images/generations", json={"prompt": "a cat", "style": "vivid"})
    assert answer.json()["warnings"] == ["style has no meaning for this server"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"prompt": NaN}'])
def test_a_body_that_is_none_is_a_400(server: Server, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/v1/images/generations", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_picture_that_is_none_is_a_400(client: openai.OpenAI, data: bytes) -> None:
    with pytest.raises(openai.BadRequestError):
        client.images.edit(image=("x.png", data, "image/png"), prompt="a dog")
