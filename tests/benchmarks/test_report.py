"""What is written names the command, the commit, the machine and the versions."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from benchmarks import report


def test_a_command_can_be_pasted_into_a_shell() -> None:
    line = report.command(
        "live", "a b", steps=2, batch_size=4, only=["x", "y"], no_fill=True, full=False, sessions=None
    )
    assert line == "python -m benchmarks.live 'a b' --steps 2 --batch-size 4 --only x --only y --no-fill"


def test_both_files_name_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "commit", lambda: "abc123-dirty")
    report.write("x", "python -m benchmarks.x", values={"rows": [1]}, title="X", text="| a |\n| --- |\n")
    told = json.loads((tmp_path / "results" / "x.json").read_text())
    assert (told["command"], told["commit"], told["rows"]) == ("python -m benchmarks.x", "abc123-dirty", [1])
    assert told["machine"].endswith(" cores")
    assert told["versions"]["torch"] == torch.__version__
    page = (tmp_path / "results" / "x.md").read_text()
    assert page.startswith("# X\n\n`python -m benchmarks.x`, commit abc123-dirty, on ")
    assert f"python {platform.python_version()}, torch {torch.__version__}" in page
    assert page.endswith("\n\n| a |\n| --- |\n")


def test_without_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "commit", lambda: None)
    assert report.origin("x")["commit"] == "unknown"
