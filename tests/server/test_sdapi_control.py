"""ControlNets in `alwayson_scripts`, by `webuiapi`'s own object for them."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import webuiapi
from diffusers import ControlNetModel, LCMScheduler
from PIL import Image
from webuiapi import ControlNetUnit

import fewstep
from fewstep.models.adapters.nets import with_controlnets
from fewstep.models.model import Model
from miniature import write_miniature_sd1
from serving import Server, serving

SIZE = {"width": 64, "height": 64, "cfg_scale": 1}


def edges(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def apart(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An LCM with nothing that steers it."""
    folder = write_miniature_sd1(tmp_path_factory.mktemp("control") / "plain")
    LCMScheduler.from_config(LCMScheduler.load_config(folder / "scheduler")).save_pretrained(folder / "scheduler")
    return fewstep.load(folder, device="cpu")


@pytest.fixture(scope="module")
def steered(plain: Model) -> Model:
    """The same with canny, twice, and depth."""
    nets = []
    for seed, name in enumerate(("canny", "canny-2", "depth")):
        with torch.random.fork_rng():
            torch.manual_seed(seed // 2)
            net = ControlNetModel.from_unet(plain.network.module, conditioning_channels=3)
            for layer in [
                *net.controlnet_down_blocks,
                net.controlnet_mid_block,
                net.controlnet_cond_embedding.conv_out,
            ]:
                torch.nn.init.normal_(layer.weight, std=0.3)
        nets.append((name, net))
    card = dataclasses.replace(plain.card, name="steered")
    return with_controlnets(dataclasses.replace(plain, card=card), nets)


@pytest.fixture(scope="module")
def server(steered: Model, plain: Model) -> Iterator[Server]:
    with serving(steered, others=[plain]) as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[webuiapi.WebUIApi]:
    host, port = server.address.split(":")
    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="LCM", steps=2)
    yield api
    api.session.close()
    for call in (api.txt2img, api.img2img):  # which remember the last call's scripts in a default of theirs
        for default in call.__defaults__:
            if isinstance(default, dict):
                default.clear()


def painted(model: Model, **options: Any) -> Image.Image:
    common: dict[str, Any] = {"seed": 7, "steps": 2, "guidance_scale": 1, "width": 64, "height": 64}
    paint = fewstep.image2image if "image" in options else fewstep.text2image
    return paint(model, "a cat", **common | options)  # type: ignore[operator, no-any-return]


def test_a_unit_steers_the_picture_by_its_weight(api: webuiapi.WebUIApi, steered: Model) -> None:
    unit = ControlNetUnit(image=edges(1), model="canny", weight=0.6)
    answer = api.txt2img(prompt="a cat", seed=7, controlnet_units=[unit], **SIZE)
    assert apart(answer.image, painted(steered, controls={"canny": (edges(1), 0.6)})) <= 1
    assert apart(answer.image, painted(steered)) > 20
    assert answer.info["warnings"] == []


def test_several_units_and_a_picture_to_start_from(api: webuiapi.WebUIApi, steered: Model) -> None:
    """The same net twice, with a hash behind its name; one that is not enabled; and one that reads the picture."""
    source = edges(5)
    units = [
        ControlNetUnit(image=edges(1), model="canny [0123abcd]", weight=0.5),
        ControlNetUnit(image=edges(2), model="canny", weight=0.7),
        ControlNetUnit(image=edges(3), model="nowhere", enabled=False),
        ControlNetUnit(model="depth", weight=0.4, resize_mode="Just Resize"),
    ]
    answer = api.img2img(
        images=[source], prompt="a cat", seed=7, denoising_strength=0.5, controlnet_units=units, **SIZE
    )
    controls = {"canny": (edges(1), 0.5), "canny-2": (edges(2), 0.7), "depth": (source, 0.4)}
    assert apart(answer.image, painted(steered, image=source, strength=0.5, controls=controls)) <= 1
    assert answer.info["warnings"] == []


def test_steered_and_free_pictures_share_the_server(api: webuiapi.WebUIApi, server: Server, steered: Model) -> None:
    """Whatever is asked at the same time: what the one reads, the other does not."""

    def one(seed: int) -> Image.Image:
        unit = ControlNetUnit(image=edges(seed), model="canny").to_dict()
        scripts = {"controlnet": {"args": [unit] if seed % 2 else []}}
        body = {"prompt": "a cat", "seed": seed, "steps": 2, "alwayson_scripts": scripts, **SIZE}
        answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=60).json()
        assert json.loads(answer["info"])["warnings"] == []
        assert "alwayson_scripts" not in answer["parameters"]  # the picture is not sent back
        return Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))

    with ThreadPoolExecutor(6) as pool:
        for seed, image in zip(range(6), pool.map(one, range(6)), strict=True):
            assert apart(image, painted(steered, seed=seed, controls={"canny": edges(seed)} if seed % 2 else None)) <= 1


def asked(server: Server, unit: Any, **more: Any) -> httpx.Response:
    body = {"prompt": "a cat", "seed": 7, "steps": 1, "alwayson_scripts": {"ControlNet": {"args": [unit]}}, **SIZE}
    return httpx.post(f"{server.url}/sdapi/v1/txt2img", json=body | more, timeout=60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere"}, "there is no ControlNet 'nowhere' here; here are canny, canny-2, depth"),
        ({"model": "None"}, "unit 0 names no model; here are canny"),
        ({"module": "canny"}, "the preprocessor 'canny' is not here; send what it would make"),
        ({"image": ""}, "unit 0 has no picture to read"),
        ({"image": "https://example.org/x.png"}, "fetches nothing"),
        ({"image": "&&&"}, "unit 0: image is not base64"),
        ({"weight": 3}, "unit 0: weight: Input should be less than or equal to 2"),
    ],
)
def test_a_unit_that_cannot_be_followed_is_refused(server: Server, change: dict[str, Any], message: str) -> None:
    answer = asked(server, ControlNetUnit(image=edges(1), model="canny").to_dict() | change)
    assert answer.status_code == 400
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("args", ["canny", {"model": "canny"}, [True], [["canny"]], [{}] * 17])
def test_units_that_are_none_are_refused(server: Server, args: Any) -> None:
    body = {"prompt": "x", "alwayson_scripts": {"controlnet": {"args": args}}}
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 400
    assert "ControlNet unit 0" in answer.json()["detail"] or "must be a list of units" in answer.json()["detail"]


def test_a_model_without_nets_says_so(server: Server) -> None:
    answer = asked(server, {"model": "canny"}, override_settings={"sd_model_checkpoint": "plain"})
    assert "plain has none loaded" in answer.json()["detail"]


def test_the_third_picture_for_a_net_that_is_there_twice_is_refused(server: Server) -> None:
    units = [ControlNetUnit(image=edges(i), model="canny").to_dict() for i in range(3)]
    answer = asked(server, None, alwayson_scripts={"controlnet": {"args": units}})
    assert "unit 2: 'canny' reads one picture only" in answer.json()["detail"]


def test_what_is_followed_otherwise_is_named(server: Server, steered: Model) -> None:
    wide = ControlNetUnit(
        image=edges(1, (128, 64)), model="canny", mask=edges(2), guidance_start=0.1, guidance_end=0, control_mode=2
    )
    answer = asked(server, wide.to_dict() | {"new_field": 3}).json()
    warnings = json.loads(answer["info"])["warnings"]
    for word in ("mask", "guidance_start", "guidance_end", "control_mode", "new_field"):
        assert f"ControlNet unit 0: {word} is not supported and was ignored" in warnings
    assert "scaled and cropped, not 'Resize and Fill'" in warnings[-1]
    assert len(warnings) == 6
    scripts = {"ADetailer": {"args": [{"ad_model": "x"}]}, "controlnet": {"args": [None]}, "Refiner": {"args": []}}
    answer = asked(server, None, alwayson_scripts=scripts).json()
    assert json.loads(answer["info"])["warnings"] == ["alwayson_scripts.ADetailer is not supported and was ignored"]


def test_other_spellings_of_a_picture(server: Server) -> None:
    given = ControlNetUnit(image=edges(1), model="canny").to_dict()
    image, others = given["image"], {"model": "canny", "weight": None, "module": None}
    pictures = [
        asked(server, others | spelt).json()["images"]
        for spelt in ({"image": image}, {"input_image": image}, {"image": {"image": image, "mask": None}})
    ]
    pictures.append(asked(server, others | {"image": f"data:image/png;base64,{image}"}).json()["images"])
    assert pictures == [pictures[0]] * 4


def test_the_extension_s_lists(api: webuiapi.WebUIApi, server: Server) -> None:
    assert api.controlnet_model_list() == ["canny", "canny-2", "depth"]
    assert api.controlnet_module_list() == ["none"]
    assert api.controlnet_version() == 3
    assert api.get_scripts() == {"txt2img": ["controlnet"], "img2img": ["controlnet"]}
    api.set_options({"sd_model_checkpoint": "plain"})
    assert api.controlnet_model_list() == []
    assert api.get_scripts()["txt2img"] == []
    first = api.get_sd_models()[0]["model_name"]
    api.set_options({"sd_model_checkpoint": first})
    answer = httpx.post(f"{server.url}/controlnet/detect", json={"controlnet_module": "canny"})
    assert answer.status_code == 404
