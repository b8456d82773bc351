"""The server that the tests of its doors share, and the browser of those of its page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from fewstep.models.model import Model
from serving import Server, serving

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--use-fake-ui-for-media-stream")
CAMERA = "--use-fake-device-for-media-stream"


@pytest.fixture(scope="package")
def server(student: Model) -> Iterator[Server]:
    with serving(student) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=found, args=[*QUIET, CAMERA])
        except Error as error:
            pytest.skip(f"no Chromium here (`make browser` installs one): {str(error).splitlines()[0]}")
        yield running
        running.close()


def is_complaint(message: ConsoleMessage) -> bool:
    """A browser says of every server that is away that it is; that is no fault of the page."""
    return message.type == "error" and "ERR_CONNECTION_REFUSED" not in message.text


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Opens pages; at the end none of them may have complained."""
    contexts, complaints = [], []

    def opened(path: str = "/", *, address: str = server.url, **options: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
        page.goto(address + path)
        page.wait_for_selector("#state[data-state=live]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
