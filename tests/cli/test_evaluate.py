"""`fewstep evaluate`: mistakes in one line, help, and a run from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.cli.main import main

PROMPTS = "\n".join(("a blue cat", "a red dog", "a sad robot", "a fox face"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "few"), "the steps are 'few'"),
        (("--steps", "0"), "the step counts are"),
        (("-n", "1"), "the number of pictures is 1"),
        (("--reference", "nowhere"), "there is no reference nowhere"),
        (("--prompts", "nowhere.txt"), "cannot be read as text"),
        (("--solvers", "euler"), "unknown solver 'euler'"),
        (("--also", "a+"), "names no model"),
        (("--teacher", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error


@pytest.mark.slow
def test_a_whole_run(
    tmp_path: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text(PROMPTS)
    options = (
        "--prompts",
        "prompts.txt",
        "--features",
        "eye",
        "--steps",
        "1",
        "-n",
        "16",
        "--draws",
        "3",
        "-o",
        "report",
    )
    command = ["evaluate", str(miniature), "--teacher", str(miniature / "teacher"), "--teacher-steps", "2", *options]
    assert main([*command, "--solvers", "none"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1:] == ["report/report.html", "report/results.json", "report/card.md"]
    assert all(Path(path).is_file() for path in out[1:])
    assert main(["compare", "report/results.json", "report/results.json"]) == 0
    assert "A is better in 0 of" in capsys.readouterr().out
