"""The PyPI client `webuiapi`, unchanged, against our server."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image

import fewstep
from fewstep.models.model import Model
from serving import Server


@pytest.fixture
def api(server: Server) -> Iterator[webuiapi.WebUIApi]:
    host, port = server.address.split(":")
    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="LCM", steps=4)
    yield api
    api.session.close()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1


def test_txt2img_is_our_picture(api: webuiapi.WebUIApi, student: Model) -> None:
    answer = api.txt2img(prompt="a cat", seed=7, width=64, height=64, batch_size=2, cfg_scale=8)
    wanted = fewstep.text2image(student, "a cat", seed=7, steps=4, guidance_scale=8, width=64, height=64, num_images=2)
    assert all(close(a, b) for a, b in zip(answer.images, wanted, strict=True))
    assert answer.info["all_seeds"] == [7, 8]
    assert answer.info["sampler_name"] == "LCM"
    assert answer.info["warnings"] == []
    assert answer.image.info["parameters"] == answer.info["infotexts"][0]
    assert "Steps: 4" in answer.info["infotexts"][0]


def test_img2img_is_our_picture(api: webuiapi.WebUIApi, student: Model) -> None:
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


def test_subseeds_are_variations(api: webuiapi.WebUIApi, student: Model) -> None:
    answer = api.txt2img(
        prompt="a cat", seed=7, subseed=20, subseed_strength=0.3, batch_size=2, width=64, height=64, cfg_scale=8
    )
    options: dict[str, Any] = {"steps": 4, "guidance_scale": 8, "width": 64, "height": 64, "num_images": 2}
    wanted = fewstep.text2image(student, "a cat", seed=7, variation=0.3, variation_seed=20, **options)
    assert all(close(a, b) for a, b in zip(answer.images, wanted, strict=True))
    info = answer.info
    assert (info["all_seeds"], info["all_subseeds"], info["subseed_strength"]) == ([7, 7], [20, 21], 0.3)
    assert info["warnings"] == []
    assert "Variation seed: 20" in info["infotexts"][0]
    drawn = api.txt2img(prompt="a cat", seed=7, subseed_strength=0.3, width=64, height=64, cfg_scale=8)
    assert not close(drawn.image, answer.image)  # another subseed each time


@pytest.mark.parametrize("size", [{"hr_scale": 1.5}, {"hr_resize_x": 96}, {"hr_resize_x": 96, "hr_resize_y": 96}])
def test_hires_fix_is_upscale_and_refine(api: webuiapi.WebUIApi, student: Model, size: dict[str, Any]) -> None:
    answer = api.txt2img(
        prompt="a cat",
        seed=7,
        enable_hr=True,
        denoising_strength=0.5,
        hr_second_pass_steps=2,
        width=64,
        height=64,
        cfg_scale=8,
        **size,
    )
    wanted = fewstep.text2image(
        student,
        "a cat",
        seed=7,
        steps=4,
        guidance_scale=8,
        width=64,
        height=64,
        upscale=1.5,
        refine_strength=0.5,
        refine_steps=2,
    )
    assert answer.image.size == (96, 96)
    assert close(answer.image, wanted)
    assert answer.info["warnings"] == []
    assert answer.info["denoising_strength"] == 0.5
    for fact in ("Hires upscale: 1.5", "Hires steps: 2", "Denoising strength: 0.5"):
        assert fact in answer.info["infotexts"][0]


def test_hires_fix_keeps_to_the_server_s_limits(server: Server) -> None:
    sizes = {"width": 512, "height": 512, "enable_hr": True, "hr_scale": 4}
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x", **sizes})
    assert answer.status_code == 400
    assert "2048 x 2048 is more than this server generates" in answer.json()["detail"]


@pytest.mark.parametrize("field", [{"nobody_knows_it": math.nan}, {"override_settings": {"x": math.inf}}])
def test_what_is_no_json_is_refused_as_the_answer_repeats_it(server: Server, field: dict[str, object]) -> None:
    body = json.dumps({"prompt": "x", "steps": 1, "width": 64, "height": 64} | field)
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "finite number" in answer.json()["detail"]


def test_a_mask_says_where(api: webuiapi.WebUIApi, student: Model) -> None:
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
        tiling=True,
        width=64,
        height=64,
    )
    warnings = "; ".join(answer.info["warnings"])
    for word in ("Euler a", "LoRA", "tiling", "cfg_scale 50 was moved to 15", "negative prompt"):
        assert word in warnings
    assert answer.info["prompt"] == "a cat"


def test_every_field_that_asks_for_something_is_kept_or_named(server: Server) -> None:
    def warned(**fields: object) -> str:
        answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x", "width": 64, "height": 64, **fields})
        return " ".join(json.loads(answer.json()["info"])["warnings"])

    asked = {
        "seed_resize_from_h": 3,
        "scheduler": "Karras",
        "s_churn": 0.5,
        "mask_blur": 9,
        "hypertile": True,
        "eta": 0.3,
    }
    told = warned(**asked)
    assert all(f"{name} is not supported" in told for name in asked)
    assert warned(eta=1.0, subseed=-1, hr_scale=2, hr_upscaler="Latent", refiner_switch_at=0.8, styles=[]) == ""
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 1}
    assert warned(**hires, hr_upscaler="Lanczos", hr_sampler_name="Use same sampler") == ""
    told = warned(**hires, hr_upscaler="R-ESRGAN 4x+", hr_prompt="a dog", hr_cfg=3)
    assert all(word in told for word in ("'R-ESRGAN 4x+' is not here", "hr_prompt is not", "hr_cfg is not"))
    assert "128 x 96 became 128 x 128" in warned(enable_hr=True, hr_resize_x=128, hr_resize_y=96)
    assert "enable_hr was ignored" in warned(enable_hr=True, hr_scale=1)
    picture = base64.b64encode(png(Image.new("RGB", (64, 64)))).decode()
    answer = httpx.post(f"{server.url}/sdapi/v1/img2img", json={"init_images": [picture], "enable_hr": True})
    assert "enable_hr is not supported" in answer.headers["x-fewstep-warnings"]


def test_absent_fields_are_the_model_s_own(server: Server, student: Model) -> None:
    info = json.loads(httpx.post(f"{server.url}/sdapi/v1/txt2img", json={"prompt": "x"}).json()["info"])
    assert info["steps"] == student.profile.steps
    assert info["cfg_scale"] == student.profile.guidance.scale
    assert (info["height"], info["width"]) == student.traits.default_size


def test_the_lists(api: webuiapi.WebUIApi, student: Model) -> None:
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


def test_an_interruption_stops_nothing_else_from_the_same_address(api: webuiapi.WebUIApi, server: Server) -> None:
    """Other doors share its lane: what waits behind the request in fal's queue is painted all the same."""
    long = {"prompt": "a cat", "steps": 50, "n_iter": 4, "batch_size": 4, "width": 128, "height": 128}
    thread = threading.Thread(target=lambda: api.txt2img(**long))
    thread.start()
    until = time.monotonic() + 30
    while time.monotonic() < until and not api.get_progress()["progress"]:
        pass
    handed = httpx.post(f"{server.url}/queue/fal-ai/lcm", json={"prompt": "x", "num_images": 2}).json()
    api.interrupt()
    thread.join(30)
    while httpx.get(handed["status_url"]).status_code == 202:
        time.sleep(0.01)
    assert "error" not in httpx.get(handed["status_url"]).json()
    assert len(httpx.get(handed["response_url"]).json()["images"]) == 2


@pytest.mark.parametrize("image", ["https://example.org/cat.png", "file:///etc/passwd", "&&&", "aGVsbG8="])
def test_only_pictures_are_read_and_nothing_is_fetched(server: Server, image: str) -> None:
    answer = httpx.post(f"{server.url}/sdapi/v1/img2img", json={"init_images": [image]})
    assert answer.status_code == 400
    assert answer.json()["detail"]
