"""A new objective is one file: that of docs/extending.md, in the folder, trains, is refused in words and goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from documents import blocks
from fewstep.cli.main import main
from fewstep.core import objectives
from fewstep.core.objectives.base import Batch, Networks
from fewstep.core.schedules import DiscreteSchedule
from oracle import GaussianWorld

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def direct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's file, in the folder of objectives."""
    (text,) = (block.text for block in blocks(DOCUMENT) if block.file == "direct.py")
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "direct.py").write_text(text)
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path / "objectives")])
    yield
    sys.modules.pop("fewstep.core.objectives.direct", None)


@pytest.fixture
def command(tmp_path: Path, miniature: Path) -> list[str]:
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (128, 128), colour).save(tmp_path / "pictures" / f"a {colour} cat.png")
    given = ["--teacher", str(miniature / "teacher"), "--data", str(tmp_path / "pictures"), "--lora", "--rank", "2"]
    return ["distill", *given, "--target", "direct", "--prompt", "a cat", "--steps", "1", "--device", "cpu"]


@pytest.mark.slow
@pytest.mark.usefixtures("direct")
def test_it_is_listed_trained_by_and_gone_on_with(
    tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "--help"]) == 0
    listed = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "--walk" in listed
    assert "the end of the teacher's walk (direct" in listed
    for folder, lengths in (("whole", (8,)), ("parts", (4, 8))):
        for pictures in lengths:
            short = ["--walk", "2", "--pictures", str(pictures), "--batch-size", "4", "--accumulate", "2"]
            assert main([*command, *short, "-o", str(tmp_path / folder)]) == 0
    whole, parts = (load_file(tmp_path / folder / "checkpoint.safetensors") for folder in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    kept = json.loads((tmp_path / "parts" / "config.json").read_text())["objective"]
    assert (kept["name"], kept["walk"]) == ("direct", 2)
    assert main([*command, "--walk", "3", "-o", str(tmp_path / "parts")]) == 2
    assert "begun with" in capfd.readouterr().err


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--walk", "1"], "walk=1 must be at least 2"),
        (["--k", "20"], "k is no setting of target='direct', which has"),
        (["--trajectory"], "target='direct' learns no trajectory"),
        (["--phases", "4"], "phases is no setting of target='direct'"),
    ],
)
def test_what_it_cannot_do_is_refused_in_words(
    command: list[str], more: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *more, "-o", "nowhere"]) == 2
    assert message in capfd.readouterr().err


@pytest.mark.usefixtures("direct")
def test_in_the_analytic_world_its_loss_is_least_for_the_exact_student() -> None:
    schedule = DiscreteSchedule.from_betas()
    world, mu = GaussianWorld(schedule), torch.linspace(-1, 1, 20, dtype=torch.float64)
    objective = objectives.objectives()["direct"](walk=64, metric="l2")  # type: ignore[call-arg]
    noise = torch.randn(20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.full((20,), schedule.last)

    def loss_of(student: object) -> float:
        networks = Networks(student, schedule, teacher=world.denoise)  # type: ignore[arg-type]
        return float(objective.loss(networks, Batch(noise, noise, times, mu)).loss)  # type: ignore[arg-type]

    assert loss_of(world.f) < 1e-4
    assert loss_of(world.denoise) > 1e-2


def test_without_the_file_it_is_unknown(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "-o", "nowhere"]) == 2
    assert "target='direct' is unknown; use student, ema, path" in capfd.readouterr().err
