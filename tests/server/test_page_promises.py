"""What the page promises of a picture: shown without loss, it can be told, shared and painted again elsewhere."""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

import fewstep
from browsing import SHOWN, changed, shown, stroke, typed
from fewstep.cli.main import main
from fewstep.imaging.reading import read_image
from fewstep.models import locating
from fewstep.models.model import Model
from fewstep.pipelines.provenance import image_hash, read_record
from serving import serving

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def apart(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return int(np.abs(np.asarray(a.convert("RGB"), dtype=int) - np.asarray(b.convert("RGB"), dtype=int)).max())


def marked(page: Page) -> None:
    page.click("[data-tool=mask]")
    stroke(page)


def saved(page: Page, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


def told(page: Page) -> list[str]:
    """The command, the Python and the curl; the files that they need are saved beside."""
    page.click("#code-open")
    page.wait_for_selector("#code[open]")
    for each in page.locator("#snippet-files button").all():
        name = each.inner_text().removeprefix("Save ")
        saved(page, f"#snippet-files >> text=Save {name}", Path(name))
    texts = page.locator("#snippets pre").all_inner_texts()
    page.click("#code .close")
    return texts


@pytest.fixture
def named(miniature: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    """A model that a command finds by its name, in an empty folder."""
    monkeypatch.setitem(locating.BUILT_IN, "miniature", miniature)
    monkeypatch.chdir(tmp_path)
    return fewstep.load("miniature", device="cpu")


def test_what_is_copied_paints_what_is_shown(open_page: Open, named: Model) -> None:
    with serving(named) as server:
        page = open_page(address=server.url)
        first = typed(page, 'a cat\'s "face"')
        page.click("#controls summary")
        page.select_option("#control-sampler", "tcd")
        changed(page, first)
        check_all(page)
        typed(page, "a (blue:1.3) cat AND a dog, [red|blue], to the letter: \\(so\\)")
        check_all(page)
        page.click("[data-source=draw]")
        before = page.evaluate(SHOWN)
        stroke(page)
        drawn = changed(page, before)
        check_all(page)
        marked(page)
        changed(page, drawn)
        check_all(page)
        page.context.close()


def check_all(page: Page) -> None:
    picture, (command, python, curl) = shown(page), told(page)
    assert main(shlex.split(command)[1:]) == 0
    assert apart(read_image("picture.png"), picture) <= 1
    exec(python, {})
    assert apart(read_image("picture.png"), picture) <= 1
    request = curl.partition(" | jq")[0]  # and what follows takes the picture out of the answer
    answer = subprocess.run(shlex.split(request), capture_output=True, check=True).stdout
    assert apart(from_answer(answer), picture) <= 1
    downloaded = saved(page, "#download", Path("downloaded.png"))
    assert apart(read_image(downloaded), picture) <= 1
    assert read_record(downloaded).seed == 0


def from_answer(answer: bytes) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(json.loads(answer)["data"][0]["b64_json"])))


def test_a_film_is_told_by_the_frame_that_was_painted(open_page: Open, named: Model) -> None:
    with serving(named) as server:
        page = open_page(address=server.url, permissions=["camera"])
        before = typed(page, "a cat")
        said: list[str] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda text: said.append(str(text))))
        page.reload()
        page.click("[data-source=camera]")
        page.wait_for_function(f"before => {SHOWN} !== before", arg=before)
        page.wait_for_timeout(700)
        command = told(page)[0]
        record = next(json.loads(text)["record"] for text in said if '"description"' in text)
        assert "--image input.jpg" in command
        assert image_hash(read_image("input.jpg")) == record["source"]
        page.context.close()


@pytest.mark.filterwarnings("ignore:miniature was trained on")
def test_the_download_of_a_large_picture_is_without_loss_too(open_page: Open, student: Model, tmp_path: Path) -> None:
    page = open_page("/#prompt=a+cat&seed=4&steps=1&width=512&height=384")
    page.wait_for_function("() => document.getElementById('output').width === 512")
    file = saved(page, "#download", tmp_path / "large.png")
    wanted = fewstep.text2image(student, "a cat", seed=4, steps=1, width=512, height=384)
    assert apart(read_image(file), wanted) <= 1


def test_upscale_tiles_and_variations_are_on_the_page(open_page: Open, student: Model) -> None:
    page = open_page()
    plain = typed(page, "a cat")
    page.click("#controls summary")
    assert not page.is_visible("#control-refine_strength")
    page.locator("#control-upscale").fill("1.5")
    large = changed(page, plain)
    assert page.is_visible("#control-refine_strength")
    assert apart(shown(page), fewstep.text2image(student, "a cat", seed=0, steps=4, upscale=1.5)) <= 1
    page.fill("#control-width", "192")
    page.locator("#control-width").blur()
    wide = changed(page, large)
    page.locator("#control-upscale").fill("1")
    flat = changed(page, wide)
    page.check("#control-tile")
    tiled = changed(page, flat)
    assert apart(shown(page), fewstep.text2image(student, "a cat", seed=0, steps=4, width=192, tile=True)) <= 1
    page.locator("#control-variation").fill("0.5")
    changed(page, tiled)
    page.fill("#control-timesteps", "999, 499")
    page.locator("#control-timesteps").blur()
    page.wait_for_function("() => document.getElementById('caption').textContent.startsWith('2 steps')")
    wanted = fewstep.text2image(
        student, "a cat", seed=0, timesteps=[999, 499], width=192, tile=True, variation=0.5, guidance_scale=8.0
    )
    page.wait_for_selector("#state[data-state=live]")
    assert apart(shown(page), wanted) <= 1
    before = page.evaluate(SHOWN)
    page.wait_for_function("() => location.hash.includes('timesteps=999')")
    page.reload()
    page.wait_for_function(f"before => {SHOWN} === before", arg=before)


def test_a_link_carries_the_drawing_and_the_mask(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    before = typed(page, "a cat")
    page.click("[data-source=draw]")
    page.locator("#control-strength").fill("0.6")
    stroke(page)
    drawn = changed(page, before)
    drawing = copied(page, "Link copied, with the drawing")
    marked(page)
    masked = changed(page, drawn)
    both = copied(page, "Link copied, with the drawing")
    for link, picture in ((drawing, drawn), (both, masked)):
        other = open_page(link.partition("/#")[2] and "/#" + link.partition("/#")[2])
        other.wait_for_function(f"before => {SHOWN} === before", arg=picture)
        assert other.is_visible("#drawing")
    page.reload()  # and so does the address
    page.wait_for_function(f"before => {SHOWN} === before", arg=masked)
    assert other.input_value("#control-strength") == "0.9"
    page.click("[data-tool=mask]")
    page.click("#clear")
    changed(page, masked)
    assert page.input_value("#control-strength") == "0.5"


def copied(page: Page, saying: str) -> str:
    page.wait_for_timeout(400)
    page.click("#share")
    page.wait_for_function("saying => document.getElementById('toast').textContent === saying", arg=saying)
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_a_link_says_what_does_not_travel(open_page: Open, tmp_path: Path) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write", "camera"])
    before = typed(page, "a cat")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page.set_input_files("#open", tmp_path / "noise.png")
    changed(page, before)
    link = copied(page, "Link copied, without the drawing: it is too large for a link")
    assert len(link) < 1000
    page.click("[data-source=camera]")
    page.wait_for_timeout(500)
    assert "source" not in copied(page, "Link copied, without the picture of the camera")


def test_the_history_brings_a_drawing_back(open_page: Open) -> None:
    page = open_page()
    before = typed(page, "a cat")
    page.click("[data-source=draw]")
    stroke(page)
    drawn = changed(page, before)
    page.click("#keep")
    page.click("[data-source=words]")
    words = changed(page, drawn)
    page.locator("#history button").first.click()
    assert changed(page, words) == drawn


def test_an_empty_canvas_paints_from_the_words_alone(open_page: Open) -> None:
    page = open_page()
    first = typed(page, "a cat")
    page.click("[data-source=draw]")
    stroke(page)
    drawn = changed(page, first)
    page.click("#clear")
    assert changed(page, drawn) == first
    page.click("[data-tool=eraser]")
    stroke(page)  # white on white
    page.wait_for_timeout(300)
    assert page.evaluate(SHOWN) == first
    marked(page)  # inside a mask there is a white canvas to paint on
    changed(page, first)


def test_a_mask_begins_at_a_strength_of_its_own(open_page: Open) -> None:
    page = open_page()
    before = typed(page, "a cat")
    page.click("[data-source=draw]")
    stroke(page)
    drawn = changed(page, before)
    assert page.input_value("#control-strength") == "0.5"
    marked(page)
    masked = changed(page, drawn)
    assert page.input_value("#control-strength") == "0.9"
    page.locator("#control-strength").fill("0.8")
    changed(page, masked)
    page.click("#clear")
    page.wait_for_function(f"before => {SHOWN} === before", arg=drawn)
    assert page.input_value("#control-strength") == "0.5"
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.getElementById('control-strength').value === '0.8'")


def test_undoing_a_stroke_beside_a_mask_is_painted(open_page: Open) -> None:
    page = open_page()
    before = typed(page, "a cat")
    page.click("[data-source=draw]")
    marked(page)
    masked = changed(page, before)
    page.click("[data-tool=brush]")
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.2)
    drawn = changed(page, masked)
    page.keyboard.press("Control+z")
    assert changed(page, drawn) == masked


def test_a_click_on_words_that_nobody_wrote_chooses_them(open_page: Open) -> None:
    page = open_page()
    page.click("#prompt")
    page.keyboard.type("a red car")
    assert page.input_value("#prompt") == "a red car"
    page.click("#prompt", position={"x": 2, "y": 15})  # one's own are clicked as ever
    page.keyboard.press("Home")
    page.keyboard.type("so ")
    assert page.input_value("#prompt") == "so a red car"
    page.click("#ideas >> text=sad robot")
    page.click("#prompt")
    page.click("#prompt")  # the second click chooses a place
    page.keyboard.press("End")
    page.keyboard.type("s")
    assert page.input_value("#prompt") == "sad robots"


SIZES = ((1366, 640), (1300, 900), (1024, 600), (1920, 1080))


@pytest.mark.parametrize("shape", [(128, 128), (256, 128), (64, 192)])
def test_the_picture_and_its_buttons_are_above_the_fold(open_page: Open, shape: tuple[int, int]) -> None:
    page = open_page(f"/#prompt=a+cat&steps=1&width={shape[0]}&height={shape[1]}")
    page.wait_for_function("([w, h]) => document.getElementById('output').width === w", arg=shape)
    for source, buttons in (("words", ["#use-as-input"]), ("draw", ["#drawing", "#clear", "#colour"])):
        page.click(f"[data-source={source}]")
        for size in SIZES:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            assert_seen(page, ["#output", "#download", *buttons], size)
            box = page.locator("#output").bounding_box()
            assert box is not None
            assert abs(box["width"] / box["height"] - shape[0] / shape[1]) < 0.05
            assert max(box["width"], box["height"]) > 250  # and not for being tiny


def assert_seen(page: Page, names: list[str], size: tuple[int, int]) -> None:
    for name in names:
        box: Any = page.locator(name).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size[1], (name, box, size)
        assert box["x"] + box["width"] <= size[0], (name, box, size)
