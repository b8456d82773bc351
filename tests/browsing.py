"""What a person does on the live page, in a browser that playwright drives."""

from __future__ import annotations

import base64
import io

from PIL import Image
from playwright.sync_api import Page

SHOWN = "document.getElementById('output').toDataURL()"


def changed(page: Page, before: str) -> str:
    """The picture once it is another one and nothing is in the making any more."""
    page.wait_for_function(f"before => {SHOWN} !== before", arg=before)
    page.wait_for_selector("#state[data-state=live]")
    page.wait_for_timeout(150)
    return str(page.evaluate(SHOWN))


def typed(page: Page, words: str) -> str:
    before = page.evaluate(SHOWN)
    page.fill("#prompt", words)
    return changed(page, before)


def stroke(page: Page) -> None:
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 240, box["y"] + 200, steps=6)
    page.mouse.up()


def shown(page: Page) -> Image.Image:
    """The picture on the page, as it is on its canvas."""
    return Image.open(io.BytesIO(base64.b64decode(page.evaluate(SHOWN).partition(",")[2]))).convert("RGB")
