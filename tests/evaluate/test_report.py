"""The report in a real Chromium: alone, light and dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Error, sync_playwright

from evaluate.made_up import results, row
from fewstep.evaluate.gallery import Gallery, Twin
from fewstep.evaluate.recommend import recommend
from fewstep.evaluate.report import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        except Error as error:
            pytest.skip(f"no Chromium here (`make browser` installs one): {str(error).splitlines()[0]}")
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dataclasses import asdict, replace

    rows = [
        row("teacher", 25, 8.0, p50=0.4),
        *(row("model", n, 30 / n, clip_score=30.0, agreement=0.5, diversity_ratio=0.9) for n in (1, 2, 4)),
        *(row("solver", n, 60 / n, clip_score=29.0) for n in (1, 2, 4)),
    ]
    found = results(*rows)
    advice = recommend(found)
    found = replace(found, recommendation=asdict(advice) | {"headline": advice.headline}, warnings=("few <pictures>",))
    image = Image.new("RGB", (128, 128), "orange")
    labels = [each.label for each in rows]
    gallery = Gallery(
        prompts=("a <cat>", "a dog"),
        grid={label: [image, image] for label in labels},
        strips={"a <cat>": {label: [image] * 4 for label in labels}},
        twins=(Twin(image, "a <cat>", image, "cat.png", 0.4),),
        twins_of="lcm",
        copies=0.01,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(found, gallery, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_it_opens_alone_and_reads_well(browser: Browser, report: Path, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=True,
        offline=True,
    )
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url[:80]))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(report.as_uri())
    assert page.locator("h1").inner_text() == "Live preview and final: 4 steps; do not ship 1 and 2."
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.chart").count() == 6
    assert page.evaluate("[...document.images].every((image) => image.loading === 'lazy' || image.complete)")
    assert "a <cat>" in page.inner_text("#pictures")
    problems = [(v["id"], v["nodes"][0]["html"]) for v in Axe().run(page).response["violations"]]
    assert problems == []
    assert complaints == []
    context.close()
