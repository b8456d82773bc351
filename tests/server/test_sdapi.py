"""The PyPI client `webuiapi`, unchanged, against our server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image

import fewstep
from fewstep.models.bundle import ModelBundle
from serving import Server


@pytest.fixture
def api(server: Server) -> Iterator[webuiapi.WebUIApi]:
    host, port = server.address.split(":")
    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="LCM", steps=4)
    yield api
    api.session.close()


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


def test_txt2img_is_our_picture(api: webuiapi.WebUIApi, student: ModelBundle) -> None:
    answer = api.txt2img(prompt="a cat", seed=7, width=64, height=64, batch_size=2, cfg_scale=8)
    wanted = fewstep.text2image(student, "a cat", seed=7, steps=4, guidance_scale=8, width=64, height=64, num_images=2)
    assert all(close(a, b) for a, b in zip(answer.images, wanted, strict=True))
    assert answer.info["all_seeds"] == [7, 8]
    assert answer.info["sampler_name"] == "LCM"
    assert answer.info["warnings"] == []
    assert answer.image.info["parameters"] == answer.info["infotexts"][0]
    assert "Steps: 4" in answer.info["infotexts"][0]


def test_img2img_is_our_picture(api: webuiapi.WebUIApi, student: ModelBundle) -> None:
    source = Image.new("RGB", (64, 64), "blue")
    answer = api.img2img(
        images=[source], prompt="a dog", seed=1, denoising_strength=0.5, width=64, height=64, cfg_scale=8
    )
    assert close(
        answer.image,
        fewstep.image2image(
            student, "a dog", source, width=64, height=64, seed=1, steps=4, strength=0.5, guidance_scale=8
        ),
    )
    assert answer.info["warnings"] == []


def test_a_mask_says_where(api: webuiapi.WebUIApi, student: ModelBundle) -> None:
    source, mask = Image.new("RGB", (64, 64), "blue"), Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    for invert in (0, 1):
        answer = api.img2img(
            images=[source],
            mask_image=mask,
            inpainting_mask_invert=invert,
            prompt="a dog",
            denoising_strength=0.5,
            seed=1,
            width=64,
            height=64,
            cfg_scale=8,
        )
        where = Image.eval(mask, lambda value: 255 - value) if invert else mask
        wanted = fewstep.image2image(
            student,
            "a dog",
            source,
            mask=where,
            seed=1,
            steps=4,
            strength=0.5,
            guidance_scale=8,
            width=64,
            height=64,
        )
        assert close(answer.image, wanted)


def test_what_is_not_supported_is_named(api: webuiapi.WebUIApi) -> None:
    answer = api.txt2img(
        prompt="a cat <lora:style:0.8>",
        negative_prompt="ugly",
        sampler_name="Euler a",
        cfg_scale=50,
        enable_hr=True,
        tiling=True,
        width=64,
        height=64,
    )
    warnings = "; ".join(answer.info["warnings"])
    for word in ("Euler a", "LoRA", "enable_hr", "tiling", "cfg_scale 50 was moved to 15", "negative prompt"):
        assert word in warnings
    assert answer.info["prompt"] == "a cat"


def test_every_field_that_asks_for_something_is_kept_or_named(server: Server) -> None:
    def warned(**fields: object) -> str:
        answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x", "width": 64, "height": 64, **fields})
        return " ".join(json.loads(answer.json()["info"])["warnings"])

    asked = {"subseed": 3, "scheduler": "Karras", "s_churn": 0.5, "mask_blur": 9, "hypertile": True, "eta": 0.3}
    told = warned(**asked)
    assert all(f"{name} is not supported" in told for name in asked)
    assert warned(eta=1.0, subseed=-1, hr_scale=2, hr_upscaler="Latent", refiner_switch_at=0.8, styles=[]) == ""
    assert "hr_scale" in warned(enable_hr=True, hr_scale=2)


def test_absent_fields_are_the_model_s_own(server: Server, student: ModelBundle) -> None:
    info = json.loads(httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x"}).json()["info"])
    assert info["steps"] == student.card.steps
    assert info["cfg_scale"] == student.card.guidance_scale
    assert (info["height"], info["width"]) == student.default_size


def test_the_lists(api: webuiapi.WebUIApi, student: ModelBundle) -> None:
    assert [sampler["name"] for sampler in api.get_samplers()] == ["LCM", "TCD"]
    assert api.get_sd_models()[0]["model_name"] == student.name
    assert api.util_get_model_names() == [api.get_sd_models()[0]["title"]]
    assert api.get_loras() == []
    assert api.get_schedulers()[0]["name"] == "automatic"
    assert api.get_options()["sd_model_checkpoint"] == api.get_sd_models()[0]["title"]
    api.set_options({"sd_model_checkpoint": student.name})
    assert "there is no model" in json.dumps(
        api.session.post(f"{api.baseurl}/options", json={"sd_model_checkpoint": "x"}).json()
    )


def test_png_info(api: webuiapi.WebUIApi) -> None:
    picture = api.txt2img(prompt="a cat", seed=7, width=64, height=64).image
    assert api.png_info(picture).info.startswith("a cat\nSteps: 4")


def test_progress_and_interrupt(api: webuiapi.WebUIApi) -> None:
    assert api.get_progress()["progress"] == 0
    ended: list[int] = []

    def long() -> None:
        ended.append(len(api.txt2img(prompt="a cat", steps=50, n_iter=16, batch_size=4, width=128, height=128).images))

    thread = threading.Thread(target=long)
    thread.start()
    seen = 0.0
    until = time.monotonic() + 30
    while time.monotonic() < until and not 0 < seen < 1:
        seen = api.get_progress()["progress"]
    api.interrupt()
    thread.join(30)
    assert 0 < seen < 1
    assert ended
    assert ended[0] < 64
    assert api.get_progress()["progress"] == 0


@pytest.mark.parametrize("image", ["https://example.org/cat.png", "file:///etc/passwd", "&&&", "aGVsbG8="])
def test_only_pictures_are_read_and_nothing_is_fetched(server: Server, image: str) -> None:
    answer = httpx.post(f"{server.url}/sdapi/v1/img2img", json={"init_images": [image]})
    assert answer.status_code == 400
    assert answer.json()["detail"]
