"""Stages one after the other, each in a process that is killed at its limit; what they find is kept at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.packages import ROOT
from benchmarks.gpu.stage import read_records
from benchmarks.gpu.stages import LEAST, Stage

RESULTS, LOG = "results.json", "log.txt"
LOG_BYTES = 8 * 2**20
LOOK = 0.5  # seconds between two looks at what a stage has written


@dataclass(frozen=True)
class Asked:
    """How all stages run.

    sites  unpacked wheels, if any, to import from
    """

    device: str
    tiny: bool = False
    only_listed: bool = False
    sites: Path | None = None

    def command(self, stage: Stage, records: Path) -> list[str]:
        flags = [flag for flag, on in (("--tiny", self.tiny), ("--only-listed", self.only_listed)) if on]
        options = ["--records", str(records), "--device", self.device]
        return [sys.executable, "-m", "benchmarks.gpu.stage", stage.module, *options, *flags]

    @property
    def environment(self) -> dict[str, str]:
        """The stages' own: nothing is fetched, and nothing that is installed joins in uninvited."""
        paths = [ROOT / "src", ROOT, *([self.sites] if self.sites else [])]
        inherited = [path] if (path := os.environ.get("PYTHONPATH")) else []
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *inherited]),
            "PYTHONUNBUFFERED": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HF_HUB_OFFLINE": "1",
        }


@dataclass(frozen=True)
class Runner:
    """Writes `output`/results.json, rewritten whole, and `output`/log.txt.

    budget  seconds for all stages together
    """

    asked: Asked
    output: Path
    budget: float
    origin: dict[str, Any]
    _results: dict[str, Any] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage]) -> dict[str, Any]:
        """What results.json holds in the end: for each stage its status, seconds and results."""
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / LOG).write_bytes(b"")
        started = time.monotonic()
        for stage in stages:
            left = self.budget - (time.monotonic() - started)
            if left < min(LEAST, stage.seconds):
                self._keep(stage, {"status": "skipped", "why": f"{max(left, 0):.0f} s of the budget were left"})
            else:
                self._run(stage, min(stage.seconds, left))
            print(f"{stage.name}: {_told(self._results[stage.name])}", flush=True)
        return self._whole()

    def _run(self, stage: Stage, limit: float) -> None:
        """One stage to its end or its limit."""
        started = time.monotonic()

        def keep(status: str, **more: Any) -> None:
            about = {"status": status, "seconds": round(time.monotonic() - started, 1), "limit": round(limit, 1)}
            self._keep(stage, about | more | {"results": read_records(records)})

        with tempfile.TemporaryDirectory() as home, (self.output / LOG).open("ab") as log:
            records = Path(home) / "records"
            log.write(f"\n===== {stage.name}\n".encode())
            log.flush()
            process = subprocess.Popen(
                self.asked.command(stage, records),
                cwd=ROOT,
                env=self.asked.environment,
                stdout=log,
                stderr=log,
                process_group=0,  # so that what it started ends with it
            )
            try:
                while process.poll() is None and time.monotonic() - started < limit:
                    keep("running")
                    _wait(process, LOOK)
                if process.poll() is None:
                    keep("out of time")
                elif process.returncode:
                    keep("failed", exit_code=process.returncode, said=self._last_words())
                else:
                    keep("done")
            finally:
                _kill(process)
        os.truncate(self.output / LOG, min((self.output / LOG).stat().st_size, LOG_BYTES))

    def _last_words(self) -> str:
        return (self.output / LOG).read_bytes()[-2000:].decode(errors="replace")

    def _keep(self, stage: Stage, about: dict[str, Any]) -> None:
        if self._results.get(stage.name, {}).get("results") == about.get("results") and about["status"] == "running":
            return
        self._results[stage.name] = about
        partial = self.output / f"{RESULTS}.partial"
        partial.write_text(json.dumps(self._whole(), indent=1) + "\n")
        partial.replace(self.output / RESULTS)

    def _whole(self) -> dict[str, Any]:
        return self.origin | {"device": self.asked.device, "tiny": self.asked.tiny, "stages": self._results}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started."""
    with contextlib.suppress(ProcessLookupError):  # it ended, and left nothing behind
        os.killpg(process.pid, signal.SIGKILL)
    _wait(process, LOOK)  # not for ever: a driver may hold on to it


def _told(about: dict[str, Any]) -> str:
    if about["status"] == "skipped":
        return f"skipped, {about['why']}"
    return f"{about['status']} after {about['seconds']:.0f} s, {len(about['results'])} results"
