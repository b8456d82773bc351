"""`fewstep serve` as a command: what it refuses before it loads anything, and how it starts and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from fewstep.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "set --token"),
        (["--token", "abc"], "too short"),
        (["--checker", "nowhere:nothing"], "give MODULE:FUNCTION"),
        (["--checker", "os:sep"], "is a str and no function"),
        (["--steps", "0"], "at least 1"),
        (["--model", "/nowhere"], "no model"),
        (["--port", "99999"], "--port"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_code_2(
    arguments: list[str], message: str, miniature: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", str(miniature), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said(miniature: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--model", str(miniature), "--port", str(port), "--runtime", "pytorch"]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_the_certificate_lies_in_the_cache_folder_that_was_chosen(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chosen").touch()  # no folder: nothing can be written there
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "chosen"))
    assert main(["serve", "--model", str(miniature), "--https", "--port", "0", "--runtime", "pytorch"]) == 2
    assert f"cannot write {tmp_path / 'chosen' / 'certificate.pem'}" in capsys.readouterr().err


@pytest.mark.slow
def test_it_starts_says_where_and_ends_when_asked(miniature: Path) -> None:
    command = [sys.executable, "-m", "fewstep", "serve", "--model", str(miniature), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if httpx.get(f"{url}readyz").json()["ready"]:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        os.kill(server.pid, signal.SIGINT)
        server.communicate(timeout=30)  # which raises where it does not end
