"""Every benchmark runs, in its smallest size, over drawings that are made up here and the starter that comes along.

What their numbers are worth only a quiet machine tells. That nothing has moved away from under them, and that what they
write names its origin, is told here.
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image, ImageDraw
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from typer.testing import CliRunner

import fewstep
from benchmarks import ablations, adapters, distill, negative_prompts, openmoji, report, starter_gallery
from benchmarks import quick as quick_figures
from conftest import NEEDS_STARTER
from fewstep.cli.main import main as fewstep_command
from fewstep.data.latents import LatentCache
from fewstep.models.locating import ADAPTERS
from recipes.emoji import art
from recipes.emoji.art import Picture
from recipes.emoji.autoencoder import Pixels
from recipes.emoji.judge import Eye

pytestmark = [pytest.mark.slow, NEEDS_STARTER]

BENCHMARKS = Path(report.__file__).parent
LABELS = ("owl", "red apple", "cat face", "house", "tulip", "rocket", "frog", "sun", "key", "star")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the starter's recipe leaves behind: art, latents, and a judge that has learnt nothing."""
    folder = tmp_path_factory.mktemp("recipe")
    pairs = [(label, style) for label in LABELS for style in art.STYLES]
    pictures = [
        Picture(label, ("thing",), style, f"{i:x}", i % 3, held_out=i % 7 == 3)
        for i, (label, style) in enumerate(pairs)
    ]
    (folder / "art.json").write_text(json.dumps([asdict(picture) for picture in pictures]))
    save_arrays({"pixels": np.stack([drawing(i) for i in range(len(pictures))])}, folder / "art.safetensors")
    torch.manual_seed(0)
    save_file(Eye(len(LABELS)).state_dict(), folder / "judge.safetensors")
    model = fewstep.load("starter", device="cpu")
    pixels = Pixels(folder, held_out=False)
    states = model.encode_text(["", *(picture.label for picture in pixels.pictures)]).states.half()
    captions = torch.arange(1, len(states)).unsqueeze(1)
    LatentCache(model.encode_images(pixels[slice(0, len(pixels))]), states, captions).save(
        folder / "latents.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the adapters' recipe leaves behind: drawings in ink, and OpenMoji's."""
    folder = tmp_path_factory.mktemp("adapters")
    for i, label in enumerate(LABELS):
        for style, part in (("ink", "held_out"), ("openmoji.art", "held_out" if i % 2 else "seen")):
            file = folder / style / part / f"{label}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawing(i)).save(file)
    shutil.copyfile(ADAPTERS["blue-ink-lcf"], folder / "openmoji-lcf.safetensors")  # trained, and not shipped
    return folder


def drawing(number: int) -> np.ndarray:
    """A round thing of its own colour and size, on white: uint8 (128, 128, 3)."""
    image = Image.new("RGB", (art.SIZE, art.SIZE), "white")
    far = 10 + number
    ImageDraw.Draw(image).ellipse((far, far, 120 - number, 110), fill=f"hsl({number * 37 % 360}, 80%, 50%)")
    return np.asarray(image)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a benchmark as its command does; what it writes goes to a folder of the test's own."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("fewstep.train.measures.PATH_STEPS", 2)  # of the teacher's paths that a run's gap is told by

    def run(name: str, *arguments: object) -> str:
        result = CliRunner().invoke(app_of(name), [f"{each}" for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def app_of(name: str) -> typer.Typer:
    app = typer.Typer()
    app.command()(importlib.import_module(f"benchmarks.{name}").main)
    return app


def written(name: str) -> dict[str, object]:
    """The JSON, which must name its origin."""
    result = json.loads((report.RESULTS / f"{name}.json").read_text())
    assert result["command"].startswith(f"python -m benchmarks.{name.partition('-')[0]}")
    assert result["commit"]
    assert result["machine"]
    assert result["versions"]["torch"] == torch.__version__
    return dict(result)


def table(name: str) -> list[list[str]]:
    """The rows of the first table in the text, which must name its origin; without its head."""
    text = (report.RESULTS / f"{name}.md").read_text()
    assert text.startswith("# ")
    assert f"`python -m benchmarks.{name}" in text
    assert f"torch {torch.__version__}" in text
    start = text[text.index("\n|") + 1 :]
    lines = start.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_has_a_run_here() -> None:
    programs = {path.stem for path in BENCHMARKS.glob("*.py") if "typer.run(main)" in path.read_text()}
    assert {name.removeprefix("test_") for name in globals() if name.startswith("test_")} >= programs


def test_live(run: Run) -> None:
    for seconds in (0.5, 2, 10):  # on a busy machine no picture may come within the first
        run("live", "--steps", 1, "--seconds", seconds, "--threads", 1, "--sessions", 1)
        ((sessions, ours, _, _, usual, *_),) = table("live")
        assert sessions == "1"
        if float(ours) > 0 and float(usual) > 0:
            return
    pytest.fail(f"pictures a second: ours {ours}, the usual {usual}")


def test_cold_start(run: Run) -> None:
    run("cold_start", "--rounds", 1)
    took = {name: float(seconds) for name, seconds, *_ in table("cold_start")}
    assert took["fewstep --help"] < took["import torch"] < took["the same by a script with diffusers"]
    text = (report.RESULTS / "cold_start.md").read_text()
    assert int(text.partition("differ by at most ")[2].partition(" ")[0]) <= 1


def test_quick(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("quick", "--share", 0.05, "--record")
    figures = written("quick")["figures"]
    assert len(figures) == 7  # type: ignore[arg-type]
    assert figures["starter, 1 step"]["ratio"] < figures["starter, 4 steps"]["ratio"]  # type: ignore[index]
    runs = quick_figures._runs()
    monkeypatch.setattr(quick_figures, "_runs", lambda: {"decoding": runs["decoding"]})
    before = quick_figures.Figure(ms=1.0, ratio=0.01, low=0.01, high=0.01)
    monkeypatch.setattr(quick_figures, "_recorded", lambda: {"decoding": before})
    result = CliRunner().invoke(app_of("quick"), ["--share", "0.2"])
    assert (result.exit_code, "slower" in result.output) == (1, True)


def test_soak(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.soak.MOST_GROWTH", math.inf)  # a few seconds tell nothing of the memory
    run("soak", "--minutes", 0.05, "--clients", 4, "--threads", 1, "--no-fill")
    assert ", 0 promises broken." in (report.RESULTS / "soak.md").read_text()


def test_memory(run: Run) -> None:
    run("memory", "--only", "sd15-text_encoder")
    ((model, part, weights, *_),) = table("memory")
    assert (model, part, weights) == ("SD 1.x", "text_encoder", "0.46")
    assert list(written("memory")["rows"]) == ["sd15-text_encoder"]  # type: ignore[call-overload]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_distill(run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone: the script that it is compared with lies in a checkout of diffusers, and in no package.

    What is timed runs here, what is watched in a process of its own.
    """

    def here(command: list[str]) -> float:
        started = time.perf_counter()
        assert command[1:3] == ["-m", "fewstep"]
        assert fewstep_command(command[3:]) == 0
        return time.perf_counter() - started

    monkeypatch.setattr(distill, "_timed", here)
    monkeypatch.setattr(distill, "LOOK", 0.25)
    sizes = ("--resolution", 64, "--batch-size", 2, "--rank", 2, "--short", 1, "--long", 2, "--rounds", 1)
    run("distill", "--folder", recipe, "--work", tmp_path / "work", *sizes)
    ours = written("distill-starter-alone")["runs"]["fewstep"]  # type: ignore[index]
    assert ours["seconds_for_everything"] > 0
    assert ours["peak_megabytes"] > ours["peak_megabytes_beside_libraries"] > 0


def test_ablations(run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- ablations: begin -->\nold\n<!-- ablations: end -->\nafter\n")
    monkeypatch.setattr(ablations, "PAGE", page)
    sizes = ("--seeds", 1, "--pictures", 4, "--batch-size", 2, "--prompts", 2)
    run("ablations", "--folder", recipe, "--work", tmp_path / "work", "--only", "lcm", *sizes)
    assert list(written("ablations")["rows"]) == ["teacher, 25 steps", "teacher, untrained", "lcm"]  # type: ignore[call-overload]
    text = page.read_text()
    assert text.startswith("before\n")
    assert "old" not in text
    assert "| lcm | 6 |" in text
    assert f"torch {torch.__version__}" in text


def test_negative_prompts(run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negative_prompts, "THINGS", {"red": ("red heart",)})
    run("negative_prompts", "--starter", recipe, "--work", tmp_path / "work", "--pictures", 6, "--seeds", 1)
    rows = written("negative_prompts")["rows"]
    assert len(rows) == 3  # type: ignore[arg-type]
    assert rows["teacher, 25 steps"]["none"] > 0.5  # type: ignore[index]


def test_student_gap(run: Run, recipe: Path) -> None:
    run("student_gap", "--folder", recipe, "--paths", 8)
    gaps = {name: float(gap) for name, gap, *_ in table("student_gap")}
    assert gaps.keys() == {"teacher, unguided", "starter", "teacher + lcm-lora", "teacher, guided"}
    assert gaps["teacher, guided"] < gaps["teacher, unguided"]  # the path is the guided one


def test_starter_quality(run: Run, recipe: Path) -> None:
    run("starter_quality", "--folder", recipe, "--count", 1)
    assert len(table("starter_quality")) == len(written("starter_quality")["rows"]) == 19  # type: ignore[arg-type]


def test_starter_words(run: Run, recipe: Path) -> None:
    run("starter_words", "--folder", recipe)
    near = dict(table("starter_words"))
    assert near["feline"].startswith("cat face,")


def test_starter_gallery(run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {"FEW": (("tcd", 1), ("dpm++", 2)), "ALL": (("tcd", 1), ("ddim", 2), ("dpm++", 2))}
    much = {"CONCEPTS": ("owl", "sun"), "FREE": ("feline",), "IMAGES": tmp_path, "HELD_OUT": 2}
    for name, few in (ways | much).items():
        monkeypatch.setattr(starter_gallery, name, few)
    run("starter_gallery", "--folder", recipe)
    with Image.open(tmp_path / "samplers.webp") as sheet:
        assert sheet.height == 16 + 4 * starter_gallery.TILE
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("samplers.webp", "free-prompts.webp", "held-out.webp", "four-steps.webp")
    }


def test_packing(run: Run, exported: Path) -> None:
    run("packing", exported, "--pictures", 8)
    differences = {name: float(apart.partition("%")[0]) for name, _, _, apart, _, _ in table("packing")}
    assert differences == {"starter, 1 steps": 0, "starter, 4 steps": 0, "starter-teacher, 8 steps": 0}


def test_eye_trust(run: Run, recipe: Path) -> None:
    run("eye_trust", "--folder", recipe, "--sample", 20)
    assert len(table("eye_trust")) == 4
    series = {series["name"]: series["distances"] for series in written("eye_trust")["damage"]}  # type: ignore[attr-defined]
    assert series["blur"][0] < series["blur"][-1]


def test_adapters(run: Run, recipe: Path, adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "ROWS", quick(adapters.ROWS))
    run("adapters", "--folder", adapted, "--starter", recipe, "--count", 2)
    ink = {(model, names): float(share.rstrip("%")) for model, names, _, share, *_ in table("adapters")}
    assert ink["starter", "blue-ink"] > ink["starter", "-"]


def quick(rows: Sequence[tuple[str, tuple[str, ...], int]]) -> list[tuple[str, tuple[str, ...], int]]:
    """Of a benchmark's rows the models and their adapters, in fewer steps."""
    return [(model, names, min(steps, 3)) for model, names, steps in rows]


def test_openmoji(run: Run, recipe: Path, adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmoji, "OPENMOJI_ROWS", quick(openmoji.OPENMOJI_ROWS))
    run("openmoji", "--folder", adapted, "--starter", recipe, "--count", 2)
    assert [row[0] for row in table("openmoji")][:2] == ["autoencoder", "starter-teacher"]
