"""Turns at the machine: a training in the background stands still while tests and benchmarks run.

    python -m recipes.lease COMMAND ...      runs it while the training waits

Both sides lock one file: the training for itself alone, between two looks at it; commands with each other. A lock ends
with the process that holds it, so that a benchmark that was killed leaves nothing standing. `pause` and `resume` (`make
trunk-pause`, `make trunk-resume`) are for people, and last until they say otherwise.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from functools import cache
from pathlib import Path

from fewstep.files import cache_folder

EVERY = 2.0  # seconds between two offers of the turn
GAP = 0.05  # seconds in which whoever waits can take it


def lease_file() -> Path:
    return cache_folder() / "starter" / "turn.lock"


def pause() -> None:
    """Let the training stand still until `resume`."""
    lease_file().parent.mkdir(parents=True, exist_ok=True)
    _paused().touch()


def resume() -> None:
    _paused().unlink(missing_ok=True)


def _paused() -> Path:
    return lease_file().with_name("paused")


@cache
def _opened(file: Path) -> int:
    """Once a process: a second one would wait for the first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT)


class Turn:
    """The training's side: call `offer` often; it returns at once, or when those who took the turn have ended. Then
    `release`."""

    def __init__(self) -> None:
        self.file = _opened(lease_file())
        self.offered = 0.0

    def offer(self) -> None:
        if time.monotonic() - self.offered < EVERY:
            return
        fcntl.flock(self.file, fcntl.LOCK_UN)
        time.sleep(GAP)
        while _paused().exists():
            time.sleep(1.0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.offered = time.monotonic()

    def release(self) -> None:
        """At the end of the work: whoever waits has the turn."""
        fcntl.flock(self.file, fcntl.LOCK_UN)
        self.offered = 0.0


def main() -> None:
    """Take the turn and become the command."""
    if not sys.argv[1:]:
        sys.exit("usage: python -m recipes.lease COMMAND ...")
    file = _opened(lease_file())
    fcntl.flock(file, fcntl.LOCK_SH)
    os.set_inheritable(file, True)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")


if __name__ == "__main__":
    main()
