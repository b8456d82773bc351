"""`fewstep doctor` as a person meets it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fewstep.cli import doctor
from fewstep.cli.main import main


@pytest.mark.slow
def test_it_says_what_is_here_and_what_to_expect(miniature: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(miniature), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for words in (
        "torch",
        "the server: complete",
        "pictures: JPEG, WebP, PNG",
        "devices: cpu (",
        "free memory",
        "GFLOP/s",
        "miniature at 128x128",
        "SD 1.x",
        "SDXL",
    ):
        assert words in out


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("peft", "greenlet", "safetensors") else "1.0")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "missing: safetensors" in out
    assert "without peft, which trains LoRAs; pip install 'fewstep[train]'" in out
    assert "without greenlet; pip install 'fewstep[serve]'" in out


def test_it_looks_for_all_that_the_server_needs() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    serving = {re.split("[<>=]", wanted)[0] for wanted in project["optional-dependencies"]["serve"]}
    assert serving == set(doctor.SERVING)


def test_a_codec_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda codec: codec != "webp")
    assert doctor._codecs() == "JPEG, PNG; not WebP: install pillow again"


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "nowhere"]) == 1
    assert "no model 'nowhere'" in capsys.readouterr().out
