"""`fewstep generate --server`: the server's pictures, by every option, without anything loaded here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import adapters
import fewstep
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.models import loading
from fewstep.models.model import Model
from fewstep.pipelines.provenance import read_record
from fewstep.server.security import Access
from serving import Server, serving

ROUNDING = 1


@pytest.fixture(scope="module")
def inked(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    file = tmp_path_factory.mktemp("ink") / "ink.safetensors"
    layers = {"lora_unet": adapters.random_layers(fewstep.load(miniature, device="cpu").network.module, 1)}
    adapters.write_kohya(file, layers, alpha=3.0)
    return fewstep.load(miniature, device="cpu", loras=[(file, 0.0)])


@pytest.fixture(scope="module")
def server(inked: Model, teacher: Model) -> Iterator[Server]:
    with serving(inked, others=[teacher]) as running:
        yield running


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> Callable[..., tuple[int, str, str]]:
    """`fewstep generate ... --server`, which may load nothing."""
    monkeypatch.chdir(tmp_path)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", loaded)

    def run_command(*arguments: object, url: str = server.url) -> tuple[int, str, str]:
        code = main(["generate", *map(str, arguments), "--server", url])
        return code, *capsys.readouterr()

    return run_command


Run = Callable[..., tuple[int, str, str]]


def apart(path: str, expected: Image.Image) -> int:
    return int(np.abs(np.asarray(read_image(path), dtype=int) - np.asarray(expected, dtype=int)).max())


def test_it_is_the_picture_that_python_paints(run: Run, inked: Model) -> None:
    code, out, err = run("a cat", "--seed", 7, "--steps", 2, "--lora", "ink:0.7", "-o", "x.png")
    assert (code, out, err) == (0, "x.png\n", "")
    expected = fewstep.text2image(inked, "a cat", seed=7, steps=2, loras={"ink": 0.7})
    assert apart("x.png", expected) <= ROUNDING
    assert read_record("x.png") == read_record_of(expected)
    assert run("a cat", "--seed", 7, "--steps", 2, "-o", "plain.png")[0] == 0
    assert apart("plain.png", expected) > 5


def read_record_of(image: Image.Image) -> Any:
    from fewstep.pipelines.provenance import record_of

    return record_of(image)


def test_every_option_arrives(run: Run, teacher: Model) -> None:
    Image.effect_noise((128, 128), 80).convert("RGB").save("start.png")
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 64, 128))
    mask.save("mask.png")
    options: dict[str, Any] = {"seed": 3, "guidance_scale": 5.0, "negative_prompt": "a dog", "sampler": "ddim"}
    said = ["--seed", 3, "--guidance-scale", 5, "--negative-prompt", "a dog", "--sampler", "ddim"]
    chosen = ["--model", "miniature-teacher", "-o", "x.png"]
    cases: list[tuple[list[object], Image.Image]] = [
        (
            ["--image", "start.png", "--mask", "mask.png", "--strength", 0.6, "--steps", 5],
            fewstep.image2image(teacher, "a cat", "start.png", mask="mask.png", strength=0.6, steps=5, **options),
        ),
        (
            ["--timesteps", "900,500", "--width", 64, "--variation", 0.4, "--variation-seed", 9],
            fewstep.text2image(
                teacher, "a cat", timesteps=(900, 500), width=64, variation=0.4, variation_seed=9, **options
            ),
        ),
        (
            ["--steps", 2, "--upscale", 1.5, "--refine-strength", 0.7, "--refine-steps", 3, "--tile"],
            fewstep.text2image(
                teacher, "a cat", steps=2, upscale=1.5, refine_strength=0.7, refine_steps=3, tile=True, **options
            ),
        ),
    ]
    for arguments, expected in cases:
        code, _, err = run("a cat", *said, *chosen, *arguments)
        assert code == 0, err
        assert apart("x.png", expected) <= ROUNDING
        assert read_record("x.png") == read_record_of(expected)


def test_many_pictures_come_in_their_order(run: Run, inked: Model) -> None:
    code, out, _ = run("a cat", "-n", 19, "--seed", 5, "--steps", 1, "-o", "x.png")
    assert (code, len(out.split())) == (0, 19)
    assert [read_record(path).seed for path in out.split()] == list(range(5, 24))
    assert apart("x-18.png", fewstep.text2image(inked, "a cat", seed=22, steps=1)) <= ROUNDING


def test_a_picture_is_made_again_there(run: Run) -> None:
    run("a cat", "--seed", 7, "--steps", 2, "--lora", "ink:0.7", "-o", "x.jpg")
    code, _, err = run("--from", "x.jpg", "-o", "y.jpg")
    assert (code, err) == (0, "")
    assert Path("x.jpg").read_bytes() == Path("y.jpg").read_bytes()
    code, _, err = run("--from", "x.jpg", "--model", "miniature-teacher", "--lora", "ink", "-o", "z.jpg")
    assert (code, "has no LoRA loaded" in err) == (2, True)


def test_advice_is_told_here(run: Run) -> None:
    code, _, err = run("a cat", "--negative-prompt", "dog", "--seed", 1, "-o", "x.png")
    assert (code, "warning: the negative prompt has no effect" in err) == (0, True)
    assert run("a cat", "--negative-prompt", "dog", "--seed", 1, "-o", "x.png", "-q")[2] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nosuch"], "there is no model 'nosuch' here; this server has miniature, miniature-teacher"),
        (["--lora", "gone:0.5"], "gone"),
        (["--lora", "a:b:c"], "give the name of its adapter"),
        (["--width", 100], "must be a multiple of 16"),
        (["--device", "cpu"], "--device is for a model that is loaded here"),
        (["--fast-decode"], "--vae is for a model"),
        (["--memory", "full"], "--memory is for a model"),
        (["--steps", 0], "must be a whole number from 1"),
        (["-o", "nowhere/x.png"], "there is no folder nowhere"),
    ],
)
def test_a_refusal_is_one_line(run: Run, arguments: list[object], words: str) -> None:
    code, out, err = run("a cat", "--seed", 1, *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert words in err
    assert list(Path().iterdir()) == []


def test_the_token_is_shown_and_never_said(run: Run, student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(student, Access("a-long-secret")) as guarded:
        code, _, err = run("cat", "--steps", 1, "--seed", 1, url=guarded.url)
        assert (code, "wants a token" in err) == (2, True)
        assert run("cat", "--steps", 1, "-o", "x.png", url=f"{guarded.url}/?token=a-long-secret")[0] == 0
        monkeypatch.setenv("FEWSTEP_TOKEN", "a-long-secret")
        assert run("cat", "--steps", 1, "-o", "x.png", url=guarded.address)[0] == 0
        code, _, err = run("cat", "--model", "x", url=f"{guarded.url}/?token=a-long-wrong")
        assert (code, "a-long-wrong" in err) == (2, False)


@pytest.mark.parametrize("url", ["ftp://here", "file:///etc/passwd", "http://", "::"])
def test_what_is_no_address_is_refused(run: Run, url: str) -> None:
    code, _, err = run("cat", url=url)
    assert (code, len([line for line in err.splitlines() if line.startswith("error: ")])) == (2, 1)


def test_nobody_there(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, _, err = run("cat", "--seed", 1, url=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (code, "start one with fewstep serve" in err) == (2, True)


class Other(BaseHTTPRequestHandler):
    """A server of another kind, or one that breaks off."""

    answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})

    def do_POST(self) -> None:
        status, body, headers = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b"<html>", {}), "is no fewstep server"),
        ((200, b"<html>", {}), "no fewstep server answers"),
        ((200, b'{"num_steps": 1}\n', {}), "broke off after 0 of 1"),
        ((200, b'{"error": "the server is shutting down"}\n', {}), "the server says: the server is shutting down"),
        ((200, b'{"painted": 0, "png": "AAAA"}\n', {}), "is not a picture"),
        ((302, b"", {"location": "http://127.0.0.1:1/"}), "answers 302"),
    ],
)
def test_another_server_is_one_line(run: Run, answer: tuple[int, bytes, dict[str, str]], words: str) -> None:
    handler = type("Handler", (Other,), {"answer": answer})
    with HTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        code, _, err = run("cat", "--seed", 1, url=f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
    assert (code, words in err, len(err.splitlines())) == (2, True, 1), err


def test_nothing_heavy_is_imported(server: Server, tmp_path: Path) -> None:
    script = (
        "import sys; from fewstep.cli.main import main; "
        f"assert main(['generate', 'cat', '--steps', '1', '-o', 'x.png', '--server', {server.url!r}]) == 0; "
        "print([name for name in ('torch', 'numpy', 'diffusers', 'transformers') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert outcome.stdout == "x.png\n[]\n"


def test_the_door_refuses_in_words(server: Server) -> None:
    import httpx

    for body, words in (
        ({"prompt": "cat", "colour": "red"}, "colour"),
        ({"prompt": "cat", "num_images": 99}, "less than or equal to 16"),
        ({"prompt": "cat", "image": "http://elsewhere/x.png"}, "image is not base64"),
        ({"prompt": "cat", "controls": {"canny": {"image": "AAAA"}}}, "canny"),
        ({}, "prompt"),
    ):
        answer = httpx.post(f"{server.url}/v1/paint", json=body)
        assert answer.status_code in (400, 422)
        assert words in json.loads(answer.text)["detail"]
