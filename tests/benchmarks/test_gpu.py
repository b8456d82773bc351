"""`make gpu` before the day there is a GPU: every stage runs, in its smallest size, with what will be there alone."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import packages, wheels
from benchmarks.gpu.packages import ROOT, WHEELS, OnlyListed, unpack_missing
from benchmarks.gpu.runner import LOG, RESULTS, Asked, Runner
from benchmarks.gpu.stages import BUDGET, STAGES, Stage
from conftest import NEEDS_STARTER

Module = Callable[[str, str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Write a stage's module with this body of `run(bench)`; returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, body: str) -> str:
        (tmp_path / f"{name}.py").write_text(f"import json, subprocess, sys, time\ndef run(bench):\n    {body}\n")
        return name

    return write


def run(folder: Path, *stages: Stage, budget: float = BUDGET, only_listed: bool = False) -> dict[str, Any]:
    """The stages by name, as results.json holds them."""
    runner = Runner(Asked("cpu", tiny=True, only_listed=only_listed), folder, budget, {"commit": "c0ffee"})
    assert runner.run(stages) == json.loads((folder / RESULTS).read_text())
    whole = json.loads((folder / RESULTS).read_text())
    assert whole["commit"] == "c0ffee"
    return dict(whole["stages"])


@pytest.mark.slow
def test_neither_a_failure_nor_a_hang_stops_the_next(tmp_path: Path, module: Module) -> None:
    sleep = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    hang = f"bench.record('child', subprocess.Popen({sleep}).pid); time.sleep(600)"
    stages = run(
        tmp_path / "out",
        Stage("fails", module("fails", "bench.record('before', 1); raise ValueError('no such luck')"), 60),
        Stage("hangs", module("hangs", hang), 4),
        Stage("dies", module("dies", "import os; os.abort()"), 60),
        Stage("lacks", "no_such_module", 60),
        Stage("works", module("works", "bench.record('device', bench.device); bench.record('tiny', bench.tiny)"), 60),
    )
    assert [stages[name]["status"] for name in stages] == ["failed", "out of time", "failed", "failed", "done"]
    assert stages["fails"]["results"] == {"before": 1}
    assert "no such luck" in stages["fails"]["said"]
    assert 4 <= stages["hangs"]["seconds"] < 60
    assert not running(stages["hangs"]["results"]["child"])
    assert stages["works"]["results"] == {"device": "cpu", "tiny": True}
    log = (tmp_path / "out" / LOG).read_text()
    assert all(f"===== {name}" in log for name in stages)
    assert "no_such_module" in log
    assert len(list((tmp_path / "out").iterdir())) == 2


def running(pid: int) -> bool:
    """Whether the process lives still; one that is killed may need a moment to be gone."""
    for _ in range(50):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_the_budget_is_kept_and_what_it_leaves_out_is_said(
    tmp_path: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.runner.LEAST", 1.0)
    hangs, works = module("hangs", "time.sleep(600)"), module("works", "bench.record('one', 1)")
    started = time.monotonic()
    stages = run(tmp_path / "out", Stage("hangs", hangs, 600), Stage("works", works, 60), budget=3)
    assert time.monotonic() - started < 60
    assert stages["hangs"]["status"] == "out of time"
    assert stages["hangs"]["limit"] == pytest.approx(3, abs=1)
    assert stages["works"] == {"status": "skipped", "why": "0 s of the budget were left"}


def test_the_stages_together_fit_the_budget() -> None:
    assert sum(stage.seconds for stage in STAGES) <= BUDGET <= 9 * 60
    assert [stage.name for stage in STAGES][:2] == ["tests", "ceilings"]


def test_a_result_is_written_while_its_stage_goes_on(tmp_path: Path, module: Module) -> None:
    file = tmp_path / "out" / RESULTS
    look = f"""bench.record("first", 1)
    for _ in range(300):
        with open({str(file)!r}) as results:
            if json.load(results)["stages"]["looks"].get("results") == {{"first": 1}}:
                return bench.record("was there", True)
        time.sleep(0.1)"""
    stages = run(tmp_path / "out", Stage("looks", module("looks", look), 60))
    assert stages["looks"]["results"] == {"first": 1, "was there": True}


def test_nothing_is_found_that_is_not_listed(tmp_path: Path, module: Module) -> None:
    looks = "from importlib.util import find_spec; bench.record('there', find_spec('fastapi') is not None)"
    stages = run(
        tmp_path / "out",
        Stage("imports", module("oracle", "import fastapi"), 60),  # named as modules of the tests, which are listed
        Stage("looks", module("miniature", looks), 60),
        only_listed=True,
    )
    assert stages["imports"]["status"] == "failed"
    assert "No module named 'fastapi'" in stages["imports"]["said"]
    assert stages["looks"]["results"] == {"there": False}
    assert OnlyListed.find_spec("fastapi") is None
    assert OnlyListed.find_spec("diffusers") is not None


def test_wheels_of_what_is_missing_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "greenlet" else object())
    with pytest.raises(SystemExit, match=r"greenlet is not installed, and .* holds 0 wheels"):
        unpack_missing(tmp_path, tmp_path / "sites")
    with zipfile.ZipFile(tmp_path / "greenlet-3.0-cp312-cp312-manylinux_2_28_x86_64.whl", "w") as wheel:
        wheel.writestr("greenlet/__init__.py", "here = True")
    assert unpack_missing(tmp_path, tmp_path / "sites") == ["greenlet"]
    assert (tmp_path / "sites" / "greenlet" / "__init__.py").read_text() == "here = True"


def test_the_wheels_are_those_of_the_one_list_as_constrained() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    asked = wheels.command(Path("there"), wheels.pinned(constraints))
    assert [word.partition("==")[0] for word in asked[-len(WHEELS) :]] == list(WHEELS)
    assert {word for word in asked if "==" in word} <= set(constraints.splitlines())
    assert "--no-deps" in asked
    with pytest.raises(SystemExit, match="no version of diffusers"):
        wheels.pinned("torch==2.11.0\ngreenlet==3.0\nsimplejpeg==1.9.0\n")


@pytest.mark.slow
def test_the_command_writes_where_its_numbers_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    app = typer.Typer()
    app.command()(command.main)
    options = ["--device", "cpu", "--tiny", "--only-listed", "--output", str(tmp_path), "--wheels", str(tmp_path)]
    result = CliRunner().invoke(app, ["ceilings", *options])
    assert result.exit_code == 0, result.output
    whole = json.loads((tmp_path / RESULTS).read_text())
    assert whole["versions"].keys() >= {"python", "torch", "diffusers"}
    assert whole["machine"]
    assert whole["commit"]
    assert whole["gpu"] is None
    assert whole["from_wheels"] == []
    assert whole["stages"]["ceilings"]["status"] == "done"
    assert CliRunner().invoke(app, ["ceiling", *options]).exit_code == 2


WANTED = {  # by stage: some of its records, and what they must hold
    "tests": (),
    "ceilings": ("copy", "matmul 128 bfloat16", "matmul 64 tf32", "attention 8x4096x40 batch 1 float16"),
    "starter": ("batch 1, 1 steps", "batch 2, 4 steps"),
    "sd15": ("TAESD, batch 1, 4 steps", "TAESD, batch 2, 4 steps", "TAESD, img2img, batch 1, 1 steps",
             "KL, batch 1, 4 steps"),
    "sdxl": ("batch 1, 4 steps", "batch 1, 1 steps"),
    "training": ("full, batch 2", "lora, batch 2"),
    "live": ("usual design, 1 steps", "8 sessions, 1 steps", "32 sessions, 2 steps"),
    "compiled": ("compile_seconds", "TAESD, batch 1, 4 steps"),
}  # fmt: skip


# All stages in one process, because each would import for seconds; what ends one is kept, and the next begins.
ALL = """
import dataclasses, importlib, traceback
from benchmarks.gpu.stage import Bench
from benchmarks.gpu.stages import STAGES

@dataclasses.dataclass(frozen=True)
class Part(Bench):
    stage: str

    def record(self, name, values):
        super().record(f"{self.stage}: {name}", values)

def run(bench):
    for stage in STAGES:
        part = Part(bench.device, bench.tiny, bench.records, stage.name)
        try:
            importlib.import_module(stage.module).run(part)
        except BaseException:
            part.record("ended", traceback.format_exc())
"""


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each stage records, with what will be there alone."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "reverse_proxy.py").write_text(ALL)  # named as a module of the tests, which are listed
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        stage = run(folder / "out", Stage("all", "reverse_proxy", BUDGET), only_listed=True)["all"]
    assert stage["status"] == "done", stage.get("said")
    assert (folder / "out" / RESULTS).stat().st_size < 2**20
    found: dict[str, dict[str, Any]] = {stage.name: {} for stage in STAGES}
    for name, values in stage["results"].items():
        which, _, what = name.partition(": ")
        found[which][what] = values
    return found


@pytest.mark.slow
@NEEDS_STARTER
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_runs_dry(dry: dict[str, dict[str, Any]], stage: Stage) -> None:
    """A ratio says that both sides have painted."""
    results = dry[stage.name]
    assert "ended" not in results, results["ended"]
    assert set(WANTED[stage.name]) <= results.keys()
    for name, row in results.items():
        for side in ("ours", "diffusers", "script"):
            if isinstance(row, dict) and side in row:
                times = row[side].get("ms") or row[side]["seconds"]
                assert times["median"] > 0, name
    if stage.name == "tests":
        there = {file.name for file in (ROOT / "tests" / "gpu").glob("test_*.py")}
        assert {Path(test.partition("::")[0]).name for test in results} == there
        assert {row["outcome"] for row in results.values()} == {"skipped"}
    if stage.name in ("starter", "sd15", "sdxl"):
        assert all(row["ratios"]["diffusers"]["median"] > 0 for row in results.values())
        assert all(row["tflop"] > 0 for row in results.values())
        assert all(row["apart"]["diffusers"] <= 0.1 for row in results.values())  # both have painted the same pictures
