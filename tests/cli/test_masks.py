"""Masks as files on the command line and in Python: opaque or white is painted anew, whatever they are stored as."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep
import masks
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.models import locating
from fewstep.models.model import Model

SIZE = 64
FILES = masks.opaque_or_white(SIZE)


@pytest.fixture(scope="module")
def wanted(student: Model) -> np.ndarray:
    source = Image.new("RGB", (SIZE, SIZE), "red")
    mask = masks.left_half(SIZE)
    return pixels(fewstep.image2image(student, "a dog", source, mask=mask, steps=1, seed=1, width=SIZE, height=SIZE))


@pytest.fixture(autouse=True)
def folder(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a picture and the masks, and the miniature in the starter's place."""
    monkeypatch.setitem(locating.BUILT_IN, "starter", miniature)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (SIZE, SIZE), "red").save("red.png")
    for name, data in FILES.items():
        Path(f"{name}.png").write_bytes(data)


def pixels(picture: Image.Image | str) -> np.ndarray:
    return np.asarray(read_image(picture) if isinstance(picture, str) else picture, dtype=int)


@pytest.mark.parametrize("way", FILES)
def test_in_python(student: Model, wanted: np.ndarray, way: str) -> None:
    mask = Image.open(io.BytesIO(FILES[way]))
    for given in (mask, f"{way}.png"):
        options = {"mask": given, "steps": 1, "seed": 1, "width": SIZE, "height": SIZE}
        painted = fewstep.image2image(student, "a dog", "red.png", **options)  # type: ignore[call-overload]
        assert np.abs(pixels(painted) - wanted).max() <= 1


def test_on_the_command_line_and_again(wanted: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--image", "red.png", "--steps", "1", "--seed", "1", "--width", str(SIZE), "--height", str(SIZE)]
    for way in ("RGBA, black strokes", "I;16"):
        assert main(["generate", "a dog", *how, "--mask", f"{way}.png", "-o", f"{way} painted.png"]) == 0
        assert np.abs(pixels(f"{way} painted.png") - wanted).max() <= 1
    capsys.readouterr()
    again = ["generate", "--from", "I;16 painted.png", "--image", "red.png", "--mask", "LA.png", "-o", "again.png"]
    assert main(again) == 0
    assert "another mask" not in capsys.readouterr().err  # it shows the same, in another kind of file
    assert np.abs(pixels("again.png") - wanted).max() <= 1


def test_in_a_batch(wanted: np.ndarray) -> None:
    row = {"prompt": "a dog", "image": "red.png", "mask": "LA.png", "seed": 1, "width": SIZE, "height": SIZE}
    Path("rows.jsonl").write_text(json.dumps(row))
    assert main(["batch", "rows.jsonl", "-o", "out", "--steps", "1"]) == 0
    assert np.abs(pixels("out/1.png") - wanted).max() <= 1


def test_of_what_is_animated_the_first_frame_is_used_and_that_is_said(
    wanted: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    how = ["--steps", "1", "--seed", "1", "--width", str(SIZE), "--height", str(SIZE), "--mask", "L.png"]
    assert main(["generate", "a dog", *how, "--image", "moving.gif", "-o", "out.png"]) == 0
    assert "the picture to start from is animated; its first frame is used" in capsys.readouterr().err
    assert np.abs(pixels("out.png")[:, SIZE // 2 :] - wanted[:, SIZE // 2 :]).max() <= 3  # what a palette loses
