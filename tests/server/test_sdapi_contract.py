"""What A1111's clients take for granted: they send back what they were told, and null for what they leave out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fewstep.models.model import Model
from fewstep.server.doors.fal.fields import Input
from fewstep.server.doors.openai.fields import Images
from fewstep.server.doors.sdapi.fields import Img2Img, Txt2Img
from serving import Server, serving

SMALL = {"prompt": "x", "seed": 7, "width": 32, "height": 32}


@pytest.fixture
def two(student: Model) -> Iterator[Server]:
    """A server of two models; a test may choose between them."""
    named = dataclasses.replace(student.card, name="gpt-image-of-mine")
    with serving(student, others=[dataclasses.replace(student, card=named)]) as running:
        yield running


def options(server: Server) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/sdapi/v1/options").json())


def choose(server: Server, given: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}/sdapi/v1/options", json=given)


def told(server: Server, **fields: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={**SMALL, **fields}, timeout=60).raise_for_status()
    return dict(json.loads(answer.json()["info"]))


def test_all_options_come_back_with_one_changed(two: Server) -> None:
    """Open WebUI's way to change the model."""
    before = options(two)
    assert choose(two, before).status_code == 200
    assert options(two) == before
    other = httpx.get(f"{two.url}/sdapi/v1/sd-models").json()[1]
    for name in (other["title"], other["model_name"]):
        assert choose(two, before | {"sd_model_checkpoint": name}).status_code == 200
        assert options(two)["sd_model_checkpoint"] == other["title"]
        assert told(two)["sd_model_name"] == other["model_name"]
        assert choose(two, before).status_code == 200  # as somebody's client still has them
        assert options(two) == before


def test_all_options_may_come_with_a_request(two: Server) -> None:
    before = options(two)
    other = httpx.get(f"{two.url}/sdapi/v1/sd-models").json()[1]["title"]
    info = told(two, override_settings=before | {"sd_model_checkpoint": other, "sd_vae": None})
    assert (info["sd_model_name"], info["warnings"]) == ("gpt-image-of-mine", [])
    assert options(two) == before
    info = told(two, override_settings={"samples_format": "jpg", "CLIP_stop_at_last_layers": 2})
    assert [warning.partition(" ")[0] for warning in info["warnings"]] == [
        "override_settings.samples_format",
        "override_settings.CLIP_stop_at_last_layers",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"samples_format": ["png"]},
        {"sd_checkpoint_hash": "0" * 64},
        {"sd_checkpoint_hash": []},
        {"CLIP_stop_at_last_layers": 2},
    ],
)
def test_what_cannot_be_set_is_refused_by_name_and_nothing_is(two: Server, change: dict[str, Any]) -> None:
    before = options(two)
    answer = choose(two, before | {"sd_model_checkpoint": "gpt-image-of-mine"} | change)
    assert answer.status_code == 400
    assert f"cannot be set on this server: {next(iter(change))};" in answer.json()["detail"]
    assert options(two) == before


def test_a_model_is_called_by_whatever_the_lists_call_it(two: Server) -> None:
    """OpenAI's own names mean any model, but not where a model of ours has such a name."""
    assert told(two)["sd_model_name"] != "gpt-image-of-mine"
    (name,) = [each["id"] for each in httpx.get(f"{two.url}/v1/models").json()["data"] if "gpt" in each["id"]]
    assert httpx.get(f"{two.url}/v1/models/{name}").json()["id"] == name
    for each in httpx.get(f"{two.url}/sdapi/v1/sd-models").json():
        for called in (each["title"], each["model_name"], each["filename"]):
            info = told(two, override_settings={"sd_model_checkpoint": called})
            assert (info["sd_model_name"], info["warnings"]) == (each["model_name"], [])


def test_names_that_the_lists_tell_are_taken_without_a_word(server: Server) -> None:
    api = f"{server.url}/sdapi/v1"
    for sampler in httpx.get(f"{api}/samplers").json():
        for name in (sampler["name"], *sampler["aliases"]):
            assert told(server, sampler_name=name)["warnings"] == []
    for scheduler in httpx.get(f"{api}/schedulers").json():
        assert told(server, scheduler=scheduler["name"])["warnings"] == []
        assert told(server, scheduler=scheduler["label"])["warnings"] == []
    for upscaler in httpx.get(f"{api}/upscalers").json():
        assert told(server, enable_hr=True, hr_scale=2, hr_upscaler=upscaler["name"])["warnings"] == []


NOT_OURS = (
    "styles",
    "script_name",
    "script_args",
    "alwayson_scripts",
    "refiner_checkpoint",
    "tiling",
    "eta",
    "scheduler",
)


@pytest.mark.slow
def test_null_is_not_given(server: Server) -> None:
    nulls = dict.fromkeys((*Txt2Img.model_fields, *NOT_OURS))
    plain, nulled = told(server), told(server, **{n: None for n in nulls if n not in SMALL})
    assert {**nulled, "job_timestamp": ""} == {**plain, "job_timestamp": ""}
    for name in nulls:
        answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json=SMALL | {name: None}, timeout=60)
        assert answer.status_code == 200, (name, answer.text)


def test_null_is_not_given_with_a_picture_either(server: Server) -> None:
    picture = httpx.post(f"{server.url}/sdapi/v1/txt2img", json=SMALL, timeout=60).json()["images"][0]
    nulls = dict.fromkeys((*Img2Img.model_fields, *NOT_OURS)) | SMALL | {"init_images": [picture]}
    pictures = [
        httpx.post(f"{server.url}/sdapi/v1/img2img", json=given, timeout=60).json()["images"]
        for given in (nulls, SMALL | {"init_images": [picture]})
    ]
    assert pictures[0] == pictures[1] != [picture]
    answer = httpx.post(f"{server.url}/sdapi/v1/img2img", json=SMALL | {"init_images": None})
    assert (answer.status_code, answer.json()["detail"]) == (422, "init_images: Field required")
    assert choose(server, dict.fromkeys(options(server))).status_code == 200


def test_null_is_not_given_at_the_other_doors(server: Server) -> None:
    nulls = dict.fromkeys(Images.model_fields) | {"prompt": "x", "seed": 7}
    answer = httpx.post(f"{server.url}/v1/images/generations", json=nulls, timeout=60)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)
    answer = httpx.post(f"{server.url}/v1/images/generations", json={"prompt": None})
    assert answer.status_code == 400
    assert "prompt is missing" in answer.json()["detail"]
    nulls = dict.fromkeys(Input.model_fields) | {"prompt": "x", "seed": 7}
    answer = httpx.post(f"{server.url}/fal-ai/lcm", json=nulls, timeout=60)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)


def test_a_scale_beyond_all_sense_is_refused(server: Server) -> None:
    answer = httpx.post(f"{server.url}/sdapi/v1/txt2img", json={**SMALL, "enable_hr": True, "hr_scale": 1e308})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("hr_scale: ")
