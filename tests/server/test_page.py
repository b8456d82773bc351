"""The live page in a real Chromium, against a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page

import adapters
import fewstep
from browsing import SHOWN, changed, stroke, typed
from fewstep.models.adapters.lora.put_on import with_loras
from fewstep.models.model import Model
from fewstep.server.coding import Coding, encode
from fewstep.server.proxy import Proxy
from fewstep.server.security import Access
from reverse_proxy import proxied
from serving import serving

pytestmark = pytest.mark.slow

APART = """(() => {
    const [a, b] = ["output", "compare-output"].map((id) => document.getElementById(id)).map(
        (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
    return a.length === b.length ? a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0) : 255;
})()"""


def test_typing_and_sliding_change_the_picture(open_page: Callable[..., Page]) -> None:
    page = open_page()
    cat = typed(page, "a cat")
    dog = typed(page, "a dog")
    assert cat != dog
    page.locator("#control-steps").press("ArrowLeft")
    fewer = changed(page, dog)
    assert "3 steps" in page.inner_text("#caption")
    page.click("#shuffle")
    assert changed(page, fewer) != dog
    assert int(page.inner_text("#latency")) > 0


def test_strokes_change_the_picture_and_can_be_undone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    first = typed(page, "a cat")
    page.click("[data-source=draw]")
    page.wait_for_timeout(300)
    assert page.evaluate(SHOWN) == first  # an empty canvas is nothing to start from
    stroke(page)
    drawn = changed(page, first)
    page.keyboard.press("Control+z")
    assert changed(page, drawn) == first
    assert page.is_visible("#draw-hint")
    page.keyboard.press("Control+Shift+z")
    assert changed(page, first) == drawn
    page.click("[data-tool=mask]")
    stroke(page)
    masked = changed(page, drawn)
    page.click("#clear")
    assert changed(page, masked) == drawn
    page.click("[data-source=words]")
    assert changed(page, drawn) == first


def test_a_camera_is_painted(open_page: Callable[..., Page]) -> None:
    page = open_page(permissions=["camera"])
    before = typed(page, "a cat")
    page.click("[data-source=camera]")
    page.wait_for_function(f"before => {SHOWN} !== before", arg=before)
    first = page.evaluate(SHOWN)
    page.wait_for_function(f"before => {SHOWN} !== before", arg=first)  # the fake camera's picture moves
    page.click("[data-source=words]")


def test_reloading_brings_it_back(open_page: Callable[..., Page]) -> None:
    page = open_page()
    typed(page, "a cat")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.wait_for_function("() => location.hash.includes('steps=2')")
    page.wait_for_timeout(300)
    before = page.evaluate(SHOWN)
    page.reload()
    page.wait_for_function(f"before => {SHOWN} === before", arg=before)
    assert page.input_value("#prompt") == "a cat"
    shared = open_page("/" + page.evaluate("location.hash"))
    shared.wait_for_function(f"before => {SHOWN} === before", arg=before)


def test_two_tabs_do_not_mix(open_page: Callable[..., Page]) -> None:
    one, two = open_page(), open_page()
    for word in ("cat", "dog", "moon"):
        typed(one, f"one {word}")
        typed(two, f"two {word}")
    ones, twos = one.evaluate(SHOWN), two.evaluate(SHOWN)
    assert ones != twos
    assert typed(one, "one end") != ones
    assert two.evaluate(SHOWN) == twos


def test_the_history_brings_back_what_was(open_page: Callable[..., Page]) -> None:
    page = open_page()
    cat = typed(page, "a cat")
    page.click("#keep")
    typed(page, "a dog")
    page.locator("#history button").first.click()
    page.wait_for_function(f"before => {SHOWN} === before", arg=cat)
    assert page.input_value("#prompt") == "a cat"


def test_the_download_carries_its_parameters(open_page: Callable[..., Page], tmp_path: Any) -> None:
    from fewstep.pipelines.provenance import read_record

    page = open_page()
    typed(page, "a cat")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "cat.png")
    assert download.value.suggested_filename == "a-cat-0.png"
    assert read_record(tmp_path / "cat.png").prompt == "a cat"


def test_the_comparison_paints_the_same_in_other_steps(open_page: Callable[..., Page]) -> None:
    page = open_page()
    typed(page, "a cat")
    page.click("#living summary")
    page.select_option("#compare", label="1 step")
    page.wait_for_function("() => document.getElementById('compare-caption').textContent.startsWith('1 step')")
    assert page.evaluate(APART) > 20
    page.locator("#control-steps").fill("1")
    page.wait_for_function(f"() => {APART} <= 8")  # a batch of two rounds otherwise, and JPEG makes more of it


def test_another_model_and_the_weights_of_adapters(
    open_page: Callable[..., Page], miniature: Path, teacher: Model, tmp_path: Path
) -> None:
    student = fewstep.load(miniature, device="cpu")
    layers = {"lora_unet": adapters.random_layers(student.network.module, 1)}
    model = with_loras(student, [(adapters.write_kohya(tmp_path / "ink.safetensors", layers, alpha=3.0), 0.0)])
    with serving(model, others=[teacher]) as server:
        page = open_page(address=server.url)
        plain = typed(page, "a cat")
        page.locator('[id="control-loras.ink"]').fill("1")
        inked = changed(page, plain)
        page.click("#living summary")
        page.select_option("#compare", label="miniature-teacher, 25 steps")
        page.wait_for_function("() => document.getElementById('compare-caption').textContent.startsWith('25 steps')")
        page.select_option("#control-model", "miniature-teacher")
        by_teacher = changed(page, inked)
        assert page.input_value("#control-steps") == "25"
        assert page.input_value("#compare") == ""
        assert page.locator('[id="control-loras.ink"]').count() == 0
        assert "model=miniature-teacher" in page.evaluate(
            "new Promise(done => setTimeout(() => done(location.hash), 400))"
        )
        page.reload()
        page.wait_for_function(f"before => {SHOWN} === before", arg=by_teacher)
        page.close()


def test_a_negative_prompt_without_effect_is_explained(open_page: Callable[..., Page]) -> None:
    page = open_page()
    assert not page.is_visible("#control-negative_prompt")  # it takes no place where it does nothing
    page.click("#controls summary")
    assert "its guidance is inside the network" in page.inner_text("#control-negative_prompt-hint")


def test_a_token_works_and_leaves_the_address(open_page: Callable[..., Page], student: Model) -> None:
    with serving(student, Access.of("0.0.0.0", "a-long-secret")) as guarded:
        page = open_page("/?token=a-long-secret", address=guarded.url)
        typed(page, "a cat")
        assert "secret" not in page.url
        page.close()


def test_a_server_that_comes_back_is_told_everything(open_page: Callable[..., Page], student: Model) -> None:
    with serving(student) as first:
        page, port = open_page(address=first.url), int(first.address.rsplit(":", 1)[1])
        before = typed(page, "a cat")
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        two = changed(page, before)
    page.wait_for_selector("#state[data-state=lost]")
    assert page.evaluate(SHOWN) == two  # nothing is blanked
    with serving(student, port=port):
        page.wait_for_selector("#state[data-state=live]", timeout=60_000)
        page.wait_for_timeout(500)
        assert page.evaluate(SHOWN) == two
        assert page.input_value("#control-steps") == "2"
        typed(page, "a dog")
        page.context.close()


def test_a_picture_of_ours_that_is_dropped_brings_its_parameters(
    open_page: Callable[..., Page], student: Model, tmp_path: Path
) -> None:
    page = open_page()
    before = typed(page, "a dog")
    cat = fewstep.text2image(student, "a cat", seed=5, steps=2)
    (tmp_path / "cat.png").write_bytes(encode(np.asarray(cat), Coding("png"), cat.info))
    page.set_input_files("#open", tmp_path / "cat.png")
    changed(page, before)
    assert (page.input_value("#prompt"), page.input_value("#control-seed")) == ("a cat", "5")
    assert page.input_value("#control-steps") == "2"
    Image.new("RGB", (50, 50), "red").save(tmp_path / "red.png")  # any other one is drawn on
    page.set_input_files("#open", tmp_path / "red.png")
    page.wait_for_selector("[data-source=draw][aria-checked=true]")


def test_a_flat_picture_is_drawn_on_a_flat_canvas(open_page: Callable[..., Page]) -> None:
    page = open_page()
    typed(page, "a cat")
    page.click("[data-source=draw]")
    page.fill("#control-height", "64")
    page.locator("#control-height").blur()
    page.wait_for_function("() => document.getElementById('output').height === 64")
    assert page.evaluate("[drawing.width, drawing.height, mask.height]") == [512, 256, 256]
    before = page.evaluate(SHOWN)
    stroke(page)
    changed(page, before)


def test_the_api_is_described_and_can_be_tried_without_the_network(browser: Browser, student: Model) -> None:
    with serving(student, Access.of("0.0.0.0", "a-long-secret")) as guarded:
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{guarded.url}/docs?token=a-long-secret")
        page.locator(".path", has_text="/sdapi/v1/txt2img").click()
        page.fill("details[open] textarea", '{"prompt": "a cat", "width": 64, "height": 64}')
        page.click("details[open] button")
        page.wait_for_selector("details[open] img")
        assert "200 OK" in page.inner_text("details[open] .try pre")
        assert page.locator(".path", has_text="/v1/live").count() == 2  # the socket, which OpenAPI does not know
        assert all(url.startswith((guarded.url, "data:")) for url in asked)
        assert complaints == []
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        page.close()


def test_behind_a_proxy_that_cuts_a_path_off_it_all_works(open_page: Callable[..., Page], student: Model) -> None:
    from fewstep.pipelines.provenance import read_record

    with serving(student, proxy=Proxy.of("/lcm")) as inner, proxied(inner.address, "/lcm") as address:
        page = open_page("/lcm/", address=f"http://{address}")
        assert typed(page, "a dog") != typed(page, "a cat")
        with page.expect_download() as download:
            page.click("#download")
        assert read_record(Path(download.value.path())).prompt == "a cat"
        page.click("#code-open")
        page.wait_for_selector("#snippets pre")
        assert f"http://{address}/lcm/v1/images/generations" in page.inner_text("#snippets")
        page.goto(f"http://{address}/lcm/docs")
        page.locator(".path", has_text="/sdapi/v1/options").first.click()
        page.click("details[open] button")
        page.wait_for_selector("details[open] .try pre")
        assert "sd_model_checkpoint" in page.inner_text("details[open] .try pre")
        page.click(".brand")
        page.wait_for_selector("#state[data-state=live]")
        assert page.url.startswith(f"http://{address}/lcm/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_everybody_can_use_it(open_page: Callable[..., Page], scheme: str, width: int) -> None:
    """axe finds nothing serious, and nothing sticks out sideways."""
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    typed(page, "a cat")
    page.click("#keep")
    page.click("[data-source=draw]")
    page.click("#living summary")
    page.click("#controls summary")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
