"""Several models and adapters behind one engine: everybody chooses and weighs for themselves, in one batch."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image
from websockets.sync.client import connect

import adapters
import fewstep
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.prompts import understood
from fewstep.pipelines.request import Request
from fewstep.server import protocol
from fewstep.server.engine import Engine, UnknownModel
from fewstep.server.job import Pixels
from fewstep.server.protocol import Picture
from serving import Server, serving

ROUNDING = 1  # of a byte: a batch of another size rounds its sums differently


@pytest.fixture(scope="module")
def weighed(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The student with the adapters `ink` and `wool`, by default half of the one and none of the other."""
    folder = tmp_path_factory.mktemp("loras")
    model = fewstep.load(miniature, device="cpu")
    files = []
    for seed, name in enumerate(("ink", "wool")):
        text = adapters.with_prefix(adapters.random_layers(model.text.encoders["text_encoder"], seed + 50))
        parts = {"lora_unet": adapters.random_layers(model.network.module, seed), "lora_te": text}
        files.append(adapters.write_kohya(folder / f"{name}.safetensors", parts, alpha=2.0))
    return fewstep.load(miniature, device="cpu", loras=[(files[0], 0.5), (files[1], 0.0)])


@pytest.fixture(scope="module")
def server(weighed: Model, teacher: Model) -> Iterator[Server]:
    with serving(weighed, others=[teacher]) as running:
        yield running


def apart(a: Any, b: Any) -> int:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.slow
def test_people_weigh_adapters_and_choose_models_in_one_batch(weighed: Model, teacher: Model) -> None:
    choose = random.Random(0)
    wanted: list[tuple[Model, dict[str, Any]]] = []
    for number in range(60):
        request: dict[str, Any] = {"prompt": choose.choice(["a cat", "a dog"]), "seed": number, "steps": 3}
        if number % 4 == 0:
            wanted.append((teacher, request))
        else:
            weights = {name: choose.choice([-0.5, 0.0, 0.3, 1.0]) for name in ("ink", "wool")[: number % 3]}
            wanted.append((weighed, request | {"loras": weights}))
    painted: dict[int, Pixels] = {}

    async def client(engine: Engine, numbers: range) -> None:
        with engine.lane() as lane:
            for number in numbers:
                model, request = wanted[number]
                order = await engine.order(Request.of(**request), model)
                (painted[number],) = await engine.pictures(lane, order)

    async def everybody() -> tuple[float, float]:
        engine = Engine(weighed, teacher, max_batch=8)
        engine.start()
        try:
            await asyncio.gather(*(client(engine, range(first, 60, 12)) for first in range(12)))
        finally:
            await engine.stop()
        read = engine.metrics.registry.get_sample_value
        calls = read("fewstep_batch_rows_count", {"call": "denoise"})
        rows = read("fewstep_batch_rows_sum", {"call": "denoise"})
        assert calls
        assert rows
        return rows, calls

    rows, calls = asyncio.run(asyncio.wait_for(everybody(), 120))
    assert rows / calls > 2  # other weights do not keep requests apart
    for number, (model, request) in enumerate(wanted):
        assert apart(painted[number], fewstep.text2image(model, **request)) <= ROUNDING


def test_names_come_from_the_registry_alone(weighed: Model, teacher: Model) -> None:
    engine = Engine(weighed, teacher)
    assert engine.named(None) is weighed
    assert engine.named("miniature-teacher") is teacher
    with pytest.raises(UnknownModel, match="there is no model '/etc' here; this server has miniature, miniature-te"):
        engine.named("/etc")
    with pytest.raises(InvalidRequest, match="two of the models have the same name"):
        Engine(weighed, weighed)
    with pytest.raises(InvalidRequest, match=r"no LoRA '\.\./x' here; loaded are ink, wool"):
        asyncio.run(engine.order(Request.of("a cat", seed=0, loras={"../x": 1.0})))


def test_openai(server: Server, weighed: Model, teacher: Model) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)
    assert [model.id for model in client.models.list()] == ["miniature", "miniature-teacher"]

    def painted(model: str, **extra: Any) -> Image.Image:
        answer = client.images.generate(prompt="a cat", model=model, extra_body={"seed": 1, "steps": 2, **extra})
        assert answer.data
        return opened(answer.data[0].b64_json or "")

    expected = fewstep.text2image(weighed, "a cat", seed=1, steps=2, loras={"wool": 1.0})
    assert apart(painted("miniature", loras={"wool": 1.0}), expected) <= ROUNDING
    assert apart(painted("miniature"), expected) > 10
    assert apart(painted("miniature-teacher"), fewstep.text2image(teacher, "a cat", seed=1, steps=2)) <= ROUNDING
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        painted("miniature-other")
    with pytest.raises(openai.BadRequestError, match="the weight of ink is 99"):
        painted("miniature", loras={"ink": 99})


def test_an_edit_takes_weights_as_json(server: Server, weighed: Model) -> None:
    file = io.BytesIO()
    Image.new("RGB", (128, 128), "orange").save(file, "PNG")
    fields = {"prompt": "a cat", "seed": "1", "loras": json.dumps({"wool": 1.0})}
    answer = httpx.post(f"{server.url}/v1/images/edits", data=fields, files={"image": file.getvalue()})
    image = Image.open(io.BytesIO(file.getvalue()))
    expected = fewstep.image2image(weighed, "a cat", image, seed=1, loras={"wool": 1.0})
    assert apart(opened(answer.json()["data"][0]["b64_json"]), expected) <= ROUNDING
    wrong = httpx.post(f"{server.url}/v1/images/edits", data=fields | {"loras": "{"}, files={"image": file.getvalue()})
    assert wrong.status_code == 400
    assert "it must be a JSON object of names and weights" in wrong.text


def test_automatic1111(server: Server, weighed: Model, teacher: Model) -> None:
    host, port = server.address.split(":")
    client = webuiapi.WebUIApi(host=host, port=int(port))
    same: dict[str, Any] = {"seed": 1, "steps": 2, "width": 128, "height": 128}
    assert [lora["name"] for lora in client.get_loras()] == ["ink", "wool"]
    answer = client.txt2img(prompt="a cat<lora:wool:1><lora:ink:x><lora:gone:1>", **same)
    expected = fewstep.text2image(weighed, "a cat", seed=1, steps=2, loras={"wool": 1.0}, guidance_scale=7.0)
    assert apart(answer.image, expected) <= ROUNDING
    warnings = "; ".join(answer.info["warnings"])
    assert "no LoRA 'gone' here" in warnings
    assert "'x' of the LoRA 'ink' is no number" in warnings
    title = next(name for name in client.util_get_model_names() if "teacher" in name)
    chosen = client.txt2img(prompt="a cat", **same, override_settings={"sd_model_checkpoint": title})
    assert apart(chosen.image, fewstep.text2image(teacher, "a cat", seed=1, steps=2, guidance_scale=7.0)) <= ROUNDING
    try:
        client.util_set_model(title)
        assert client.util_get_current_model() == title
        assert apart(client.txt2img(prompt="a cat", **same).image, chosen.image) <= ROUNDING
    finally:
        client.util_set_model(next(name for name in client.util_get_model_names() if "teacher" not in name))


def test_fal(server: Server, weighed: Model) -> None:
    body = {"prompt": "a cat", "seed": 1, "format": "png", "loras": [{"path": "wool", "scale": 1.0}]}
    answer = httpx.post(f"{server.url}/fal-ai/lcm", json=body).json()
    painted = opened(answer["images"][0]["url"].partition(",")[2])
    assert apart(painted, fewstep.text2image(weighed, "a cat", seed=1, loras={"wool": 1.0})) <= ROUNDING
    wrong = httpx.post(f"{server.url}/fal-ai/lcm", json=body | {"loras": [{"path": "https://x.org/y.safetensors"}]})
    assert wrong.status_code == 400
    assert "no LoRA" in wrong.text


def test_live(server: Server, weighed: Model, teacher: Model) -> None:
    with connect(server.live, subprotocols=[protocol.JSON]) as socket:  # type: ignore[list-item]
        hello = json.loads(socket.recv())
        assert list(hello["models"]) == ["miniature", "miniature-teacher"]
        sliders = next(each for each in hello["controls"] if each["name"] == "loras")
        assert sliders["default"] == {"ink": 0.5, "wool": 0.0}

        def painted(**parameters: Any) -> Image.Image:
            wanted = {"prompt": "a cat", "seed": 1, "steps": 2, "format": "png", **parameters}
            socket.send(json.dumps({"type": "set", "id": 1, "parameters": wanted}))
            while isinstance(message := socket.recv(timeout=30), str):
                assert "error" not in message
            return Image.open(io.BytesIO(Picture.from_binary(message).data))

        expected = fewstep.text2image(weighed, "a cat", seed=1, steps=2, loras={"ink": -1.0})
        assert apart(painted(loras={"ink": -1.0}), expected) <= ROUNDING
        expected = fewstep.text2image(teacher, "a cat", seed=1, steps=2)
        assert apart(painted(model="miniature-teacher", loras={}), expected) <= ROUNDING


def test_live_an_adapter_in_the_prompt_is_weighed_and_never_words(server: Server, weighed: Model) -> None:
    def painted(**parameters: Any) -> tuple[Image.Image, list[str]]:
        wish = {"format": "png", "seed": 1, "steps": 1, **parameters}
        advice: list[str] = []
        with connect(server.live, subprotocols=[protocol.JSON]) as socket:
            socket.send(json.dumps({"type": "set", "id": 1, "parameters": wish}))
            while True:
                received = socket.recv(timeout=30)
                if isinstance(received, bytes):
                    return Image.open(io.BytesIO(Picture.from_binary(received).data)), advice
                message = json.loads(received)
                assert message["type"] != "error"
                advice += message.get("messages", [])

    plain = fewstep.text2image(weighed, "a cat", seed=1, steps=1)
    wool = fewstep.text2image(weighed, "a cat", seed=1, steps=1, loras={"wool": 1.0})
    picture, advice = painted(prompt="a cat <lora:wool:1>", loras={"wool": 0.1})
    assert (apart(picture, wool) <= ROUNDING, advice) == (True, [])
    for half in ("<lora:wo", "<lora:gone:1>", "<lora:wool:x>"):
        picture, advice = painted(prompt=f"a cat {half}")
        assert apart(picture, plain) <= ROUNDING
        assert (len(advice), "its tag was ignored" in advice[0]) == (1, True)
    picture, advice = painted(prompt="a cat AND [a|")
    assert apart(picture, fewstep.text2image(weighed, r"a cat \AND \[a|", seed=1, steps=1)) <= ROUNDING
    assert [each.endswith("it is painted as words") for each in advice] == [True]


def test_a1111_s_clients_are_refused_what_is_not_done_by_name(server: Server) -> None:
    for fields in ({"prompt": "a [cat:dog:0.5]"}, {"prompt": "x", "negative_prompt": "a [cat|dog]"}):
        answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json=fields)
        assert answer.status_code == 400
        assert "is what other programs read as" in answer.json()["detail"]
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x", "negative_prompt": "<lora:ink:1>"})
    assert "is in the negative prompt" in answer.headers["x-fewstep-warnings"]


@pytest.mark.parametrize(
    ("prompt", "escaped"),
    [
        ("(red:1.4) cat [a|b]", r"\(red:1.4\) cat \[a|b\]"),
        ("a BREAK <lora:wool:1>", r"a \BREAK \<lora:wool:1>"),
        ("a cat AND __fox__", r"a cat \AND \__fox__"),
    ],
)
def test_openai_s_and_fal_s_prompts_are_taken_to_the_letter(
    server: Server, weighed: Model, prompt: str, escaped: str
) -> None:
    states = weighed.encode_prompts([understood(escaped).text]).states
    assert np.array_equal(states, weighed.encode_text([prompt]).states)  # as captions are read
    wanted = fewstep.text2image(weighed, escaped, seed=1, steps=1)
    answer = httpx.post(f"{server.url}/v1/images/generations", json={"prompt": prompt, "seed": 1, "steps": 1}).json()
    assert apart(opened(answer["data"][0]["b64_json"]), wanted) <= ROUNDING
    fal = {"prompt": prompt, "seed": 1, "num_inference_steps": 1, "format": "png"}
    answer = httpx.post(f"{server.url}/fal-ai/lcm", json=fal).json()
    assert apart(opened(answer["images"][0]["url"].partition(",")[2]), wanted) <= ROUNDING


def test_openai_s_door_reads_marks_where_it_is_told_to(server: Server, weighed: Model) -> None:
    body = {"prompt": "a (red:1.4) cat <lora:wool:1>", "prompt_marks": True, "seed": 1, "steps": 1}
    answer = httpx.post(f"{server.url}/v1/images/generations", json=body).json()
    expected = fewstep.text2image(weighed, "a (red:1.4) cat", seed=1, steps=1, loras={"wool": 1.0})
    assert apart(opened(answer["data"][0]["b64_json"]), expected) <= ROUNDING
