"""The command and the Python that a session tells paint the very picture that it shows: at most 1 of 255 apart."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import adapters
import fewstep
from conftest import HAS_STARTER
from fewstep.cli.main import main
from fewstep.cli.runtime import Runtime, run_by
from fewstep.imaging.reading import read_image
from fewstep.models import locating
from fewstep.models.model import Model
from fewstep.pipelines.provenance import read_record
from live_client import Client, close, image_of, talking
from serving import Server, serving

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def built_in(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, with the miniature among the models that are built in."""
    monkeypatch.setitem(locating.BUILT_IN, "miniature", miniature)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(built_in: None) -> Iterator[Server]:
    with serving(fewstep.load("miniature", device="cpu")) as running:
        yield running


def ask(client: Client, **fields: Any) -> dict[str, Any]:
    client.socket.send(json.dumps({"type": "describe", "id": 77, **fields}))
    told = client.until(lambda it: isinstance(it, dict) and it["type"] in ("description", "error"))
    assert told["id"] == 77
    return dict(told)


def show(client: Client, id_: int, kind: int, picture: Image.Image, name: str) -> Image.Image:
    """Send a picture, and keep it under the name that the command knows."""
    picture.save(file := io.BytesIO(), "PNG")
    Path(name).write_bytes(file.getvalue())
    client.socket.send(b"FSL1" + bytes([kind, 0, 0, 0]) + id_.to_bytes(4, "little") + file.getvalue())
    return image_of(client.picture(id_))


def by_command(told: dict[str, Any]) -> Image.Image:
    program, *arguments = shlex.split(told["command"])
    assert program == "fewstep"
    assert main(arguments) == 0
    return read_image("picture.png")


def by_python(told: dict[str, Any]) -> Image.Image:
    exec(told["python"], {})
    return read_image("picture.png")


def drawing() -> Image.Image:
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).ellipse((20, 30, 100, 110), fill="orange")
    return picture


@pytest.mark.filterwarnings("ignore:the negative prompt has no effect")
@pytest.mark.parametrize(
    "wanted",
    [
        {"steps": 3, "guidance_scale": 5.3},
        {"prompt": 'a dog\'s "face"\nand $HOME `x` \\ – ü'},
        {"prompt": "-o oh"},
        {"prompt": "cats AND dogs, [red:blue:0.5] [a|b|c] (soft:1.2) __x__ \\[cup] {a|b} <lora:gone:1> a::2"},
        {"prompt": ""},
        {"upscale": 1.5, "refine_strength": 0.35, "refine_steps": 3, "steps": 2},
        {"width": 192, "height": 64, "tile": True, "sampler": "tcd"},
        {"variation": 0.25, "variation_seed": 9},
        {"timesteps": [999, 499, 259], "upscale": 1.5},
        {"seed": 2**53 - 1, "negative_prompt": "-x"},
    ],
    ids=str,
)
def test_words_alone(server: Server, wanted: dict[str, Any]) -> None:
    with talking(server) as client:
        client.set(1, **{"prompt": "a cat", "seed": 5} | wanted)
        shown = image_of(client.picture(1))
        told = ask(client)
    assert told["picture"] == 1
    assert told["record"]["prompt"] == wanted.get("prompt", "a cat").replace("<lora:gone:1>", "")  # said, live
    assert told["notes"] == []
    assert close(by_command(told), shown)
    assert close(by_python(told), shown)


@pytest.mark.parametrize("masked", [False, True])
def test_over_a_drawing(server: Server, masked: bool) -> None:
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=5, strength=0.7)
        words = image_of(client.picture(1))
        shown = show(client, 2, 0, drawing(), "input.png")
        if masked:
            mask = Image.new("L", (128, 128))
            ImageDraw.Draw(mask).rectangle((0, 0, 60, 127), fill=255)
            shown = show(client, 3, 1, mask, "marked.png")
        told = ask(client, mask="marked.png")
        assert not close(words, shown)
    assert [note.split()[3].strip(":") for note in told["notes"]] == ["input.png", "marked.png"][: 1 + masked]
    assert close(by_command(told), shown)
    assert close(by_python(told), shown)


def test_the_fewer_steps_and_smaller_size_of_a_budget_are_told(server: Server) -> None:
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=5)
        client.picture(1)
        client.set(2, budget_ms=1)
        small = image_of(client.picture(2))
        told = ask(client)
    assert (told["record"]["steps"], told["record"]["width"]) == (1, 64)
    assert close(by_command(told), small)


def test_models_and_adapters_from_files_are_named_or_said(miniature: Path, tmp_path: Path) -> None:
    student = fewstep.load(miniature, device="cpu")
    layers = {"lora_unet": adapters.random_layers(student.network.module, 1)}
    ink = adapters.write_kohya(tmp_path / "ink.safetensors", layers, alpha=3.0)
    vae = tmp_path / "other"
    student.autoencoder.module.save_pretrained(vae)
    model = fewstep.load(miniature, device="cpu", loras=[(ink, 0.0)], vae=vae)
    with serving(model) as server:
        with talking(server) as client:
            client.set(1, prompt="a cat", seed=5, loras={"ink": 0.75})
            shown = image_of(client.picture(1))
            elsewhere = ask(client)
        with talking(server, origin=server.url) as client:
            client.set(1, prompt="a cat", seed=5, loras={"ink": 0.75})
            client.picture(1)
            here = ask(client)
        with talking(server, origin=server.url, additional_headers={"x-forwarded-for": "10.0.0.9"}) as client:
            client.set(1, prompt="a cat", seed=5, loras={"ink": 0.75})
            client.picture(1)
            through_a_proxy = ask(client)
    assert str(tmp_path) not in json.dumps(elsewhere)
    assert through_a_proxy["notes"] == elsewhere["notes"]
    assert [note.split(" lies")[0] for note in elsewhere["notes"]] == [
        "The adapter ink",
        "The model miniature",
        "The autoencoder other",
    ]
    assert close(by_command(here), shown)
    assert close(by_python(here), shown)


def test_the_other_parts_that_paint_are_told(miniature: Path, tmp_path: Path) -> None:
    """Another U-Net, the end of the schedule, a word of one's own: the command and the Python code load them, too."""
    save_file({"emb_params": torch.randn(2, 32)}, tmp_path / "toy.safetensors")
    parts = {"unet": miniature / "unet", "zero_snr": True, "embeddings": [(tmp_path / "toy.safetensors", "my toy")]}
    model = fewstep.load(miniature / "teacher", device="cpu", **parts)  # type: ignore[arg-type]
    with serving(model) as server, talking(server, origin=server.url) as client:
        client.set(1, prompt="my toy cat", seed=5)
        shown = image_of(client.picture(1))
        told = ask(client)
    assert close(by_command(told), shown)
    assert close(by_python(told), shown)


def test_before_the_first_picture_there_is_nothing_to_tell(server: Server) -> None:
    with talking(server) as client:
        assert "no picture yet" in ask(client)["message"]
        client.socket.send(json.dumps({"type": "describe", "id": 77, "image": "../x; rm"}))
        assert "should match pattern" in client.message("error")["message"]


@pytest.mark.skipif(not HAS_STARTER, reason="no weights yet")
def test_the_starter_as_it_is_served() -> None:
    """With its fast decoder, and with OpenVINO where that is; `--from` paints the same, too."""
    model: Model = run_by(Runtime.AUTO, fewstep.load("starter", device="cpu", vae="fast"))
    whole = fewstep.text2image(fewstep.load("starter", device="cpu"), "a cat face", seed=5, steps=2)
    with serving(model) as server, talking(server) as client:
        client.set(1, prompt="a cat face", seed=5, steps=2)
        picture = client.picture(1)
        told = ask(client)
        client.set(2, strength=0.6)
        client.picture(2)
        over = show(client, 3, 0, drawing(), "input.png")
        told_over = ask(client)
    shown = image_of(picture)
    assert not close(whole, shown)  # the decoder decides the picture
    assert "--fast-decode" in told["command"]
    assert close(by_command(told), shown)
    assert close(by_command(told_over), over)
    Path("shown.png").write_bytes(picture.data)
    assert read_record("shown.png").vae == "fast"
    assert main(["generate", "--from", "shown.png", "-o", "again.png"]) == 0
    assert close(read_image("again.png"), shown)
