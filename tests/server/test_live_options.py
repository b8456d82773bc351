"""Every option of `text2image` and `image2image` over the socket: the picture is the one that those paint."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image, ImageDraw
from websockets.sync.client import connect

import fewstep
from fewstep.models.model import Model
from fewstep.pipelines.image2image import StrengthOptions
from fewstep.server import protocol
from fewstep.server.budget import Budget, Effort
from fewstep.server.controls import controls
from fewstep.server.protocol import Parameters
from live_client import close, image_of, picture_file, talking
from miniature import write_miniature_sd1
from serving import Server, serving

FRAME = b"FSL1"


def test_no_option_is_missing() -> None:
    """What is not set by its name is a picture, or belongs to a call from Python."""
    elsewhere = {"controls", "mask", "batch_size", "on_step"}
    assert {name for name in StrengthOptions.__annotations__ if name not in Parameters.model_fields} == elsewhere


# as the page of fewstep 0.1.0 sent it, and what it took for granted in a hello
OLD_MESSAGE = (
    '{"type": "set", "id": 7, "parameters": {"loras": {}, "control_scales": {}, "sampler": "lcm", "model": '
    '"miniature", "steps": 2, "guidance_scale": 3, "negative_prompt": "", "strength": 0.5, "seed": 3, "width": '
    '128, "height": 128, "upscale": 1, "refine_strength": 0.4, "refine_steps": null, "tile": false, "variation": '
    '0, "variation_seed": null, "timesteps": null, "prompt": "a cat", "format": "png", "previews": false, '
    '"rest_steps": null, "budget_ms": null, "skip_similar": 0}}'
)
OLD_DEFAULTS = (
    '{"prompt": "", "negative_prompt": "", "seed": 0, "steps": null, "timesteps": null, "guidance_scale": null, '
    '"strength": null, "width": null, "height": null, "sampler": null, "model": null, "loras": {}, '
    '"control_scales": {}, "variation": 0.0, "variation_seed": null, "upscale": null, "refine_strength": null, '
    '"refine_steps": null, "tile": false, "format": "jpeg", "quality": 90, "previews": false, "rest_steps": '
    'null, "budget_ms": null, "skip_similar": 0.0}'
)


def test_an_old_client_is_understood(server: Server, student: Model) -> None:
    with talking(server) as client:
        later = {"precision": None, "decoder": None}
        assert client.hello["parameters"] == json.loads(OLD_DEFAULTS) | later
        client.socket.send(OLD_MESSAGE.replace("miniature", student.name))
        wanted = fewstep.text2image(student, "a cat", seed=3, steps=2, sampler="lcm", guidance_scale=3.0)
        assert close(image_of(client.picture(7)), wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"upscale": 1.5},
        {"upscale": 2.0, "refine_strength": 0.3, "refine_steps": 3},
        {"width": 192, "tile": True},
        {"variation": 0.4},
        {"variation": 0.4, "variation_seed": 99},
        {"timesteps": [999, 499, 259]},
        {"sampler": "tcd", "guidance_scale": 4.0},
    ],
    ids=str,
)
def test_it_paints_what_text2image_paints(server: Server, student: Model, options: dict[str, Any]) -> None:
    steps = {} if "timesteps" in options else {"steps": 2}
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=3, **steps, **options)
        picture = image_of(client.picture(1))
        plain = fewstep.text2image(student, "a cat", seed=3, **steps)
        wanted = fewstep.text2image(student, "a cat", seed=3, **steps, **options)
        assert close(picture, wanted)
        assert picture.size != plain.size or not close(picture, plain)
        client.set(2, **dict.fromkeys(options) | {"steps": 2, "tile": False, "variation": 0})
        assert close(image_of(client.picture(2)), fewstep.text2image(student, "a cat", seed=3, steps=2))


def test_what_belongs_to_something_that_is_off_waits(server: Server, student: Model) -> None:
    with talking(server) as client:
        off = {"upscale": 1, "refine_strength": 0.2, "refine_steps": 2, "variation": 0, "variation_seed": 5}
        client.set(1, prompt="a cat", seed=3, steps=1, strength=0.3, **off)
        assert close(image_of(client.picture(1)), fewstep.text2image(student, "a cat", seed=3, steps=1))


def test_a_mask_without_a_strength_paints_all_of_it_anew(server: Server, student: Model) -> None:
    source, mask = Image.new("RGB", (128, 128), "blue"), Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 64, 128))
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=3)
        client.picture(1)
        for id_, kind, picture in ((2, b"\0", source), (3, b"\1", mask)):
            client.socket.send(FRAME + kind + bytes(3) + id_.to_bytes(4, "little") + file_of(picture))
            shown = image_of(client.picture(id_))
        assert close(shown, fewstep.image2image(student, "a cat", source, mask=mask, seed=3))


def file_of(picture: Image.Image) -> bytes:
    picture.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize("other", ["steps", "refine_steps", "rest_steps", "budget_ms"])
def test_times_and_steps_are_not_both_set(server: Server, other: str) -> None:
    with talking(server) as client:
        client.set(1, prompt="x", timesteps=[999], **{other: 2})
        error = client.message("error")
        assert f"set {other} to null, or the timesteps" in error["message"]
        client.set(2, prompt="x", timesteps=[499, 999])
        assert "they must fall" in client.message("error")["message"]


@pytest.mark.slow
def test_a_controlnet_reads_its_picture(tmp_path: Path) -> None:
    base = write_miniature_sd1(tmp_path / "sd1")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ControlNetModel.from_unet(fewstep.load(base, device="cpu").network.module)
        for module in [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]:
            torch.nn.init.normal_(module.weight, std=0.3)  # an untrained one steers by zero
    net.save_pretrained(tmp_path / "edges")
    model = fewstep.load(base, device="cpu", controlnets=[tmp_path / "edges"])
    edges = Image.new("RGB", (128, 128))
    ImageDraw.Draw(edges).ellipse((20, 20, 100, 100), outline="white", width=6)
    paint = {"seed": 3, "steps": 2}
    plain = fewstep.text2image(model, "a cat", **paint)
    steered, half = (fewstep.text2image(model, "a cat", controls={"edges": (edges, x)}, **paint) for x in (1.0, 0.5))
    assert not close(plain, steered)
    with serving(model) as server:
        with talking(server) as client:
            scales = next(each for each in client.hello["controls"] if each["name"] == "control_scales")
            assert scales["default"] == {"edges": 1.0}
            client.set(1, prompt="a cat", **paint)
            assert close(image_of(client.picture(1)), plain)
            client.socket.send(FRAME + b"\2\0\0\0" + (2).to_bytes(4, "little") + file_of(edges))
            assert close(image_of(client.picture(2)), steered)
            client.set(3, control_scales={"edges": 0.5})
            assert close(image_of(client.picture(3)), half)
            client.socket.send(json.dumps({"type": "set", "id": 4, "controls": None}))
            assert close(image_of(client.picture(4)), plain)
            client.socket.send(FRAME + b"\2\1\0\0" + (5).to_bytes(4, "little") + file_of(edges))
            assert client.message("error")["message"] == "no ControlNet '1' here; loaded are edges"
            client.set(6, control_scales={"depth": 1})
            assert client.message("error")["message"] == "no ControlNet 'depth' here; loaded are edges"
        with connect(server.live, subprotocols=[protocol.MSGPACK]) as socket:
            socket.recv()
            wish = {"type": "set", "id": 1, "parameters": {"prompt": "a cat", "format": "png", **paint}}
            socket.send(msgpack.packb(wish))
            socket.send(msgpack.packb({"type": "frame", "id": 2, "control": "edges", "data": file_of(edges)}))
            while (message := msgpack.unpackb(socket.recv(timeout=30)))["type"] != "picture" or message["id"] != 2:
                pass
            assert close(Image.open(io.BytesIO(message["data"])), steered)


def test_a_server_without_controlnets_says_so(server: Server) -> None:
    with talking(server) as client:
        client.socket.send(FRAME + b"\2\0\0\0" + (1).to_bytes(4, "little") + picture_file("red"))
        assert "has none loaded" in client.message("error")["message"]


def test_a_page_can_build_every_control_from_its_default(student: Model, teacher: Model) -> None:
    """The defaults are parameters, and paint what the model paints by itself."""
    for model in (student, teacher):
        known = {each["name"]: each["default"] for each in controls(model)}
        assert Parameters.model_validate(known | {"strength": None}).upscale == 1
        assert next(each for each in controls(model) if each["name"] == "negative_prompt")["advanced"] is (
            model is student  # whose guidance is inside
        )


def test_a_budget_counts_the_second_round() -> None:
    budget, small = Budget(), Effort(2, 100, 100)
    budget.measure(3.0, small)  # 3 units of 10,000 pixels
    large = Effort(2, 100, 100, upscale=2.0, refine_steps=4)
    assert large.work == 3 * 10_000 + 5 * 40_000
    assert budget.afford(large, 23.0, 8) == large
    assert budget.afford(large, 22.0, 8) == Effort(1, 100, 100, 2.0, 4)
    assert budget.afford(large, 5.5, 10) == Effort(1, 50, 50, 2.0, 4)
