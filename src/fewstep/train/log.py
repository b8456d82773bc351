"""The run's log: means over some steps, a JSON line each, in `log.jsonl`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from fewstep.files import replacing, writing

LOG = "log.jsonl"


class RunLog:
    """Appends to `folder/log.jsonl` every `every` steps: pictures seen, their speed, the mean of each scalar.

    What an earlier run logged beyond `seen`, and lost with its last checkpoint, is taken back.
    """

    def __init__(self, folder: Path, seen: int, every: int = 50, *, writes: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        self.file: TextIO | None = None
        if writes:
            _truncate(self.path, seen)
            self.file = self.path.open("a")
        self.rows: list[dict[str, float]] = []
        self.every, self.first, self.started = every, seen, time.monotonic()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, seen: int, scalars: dict[str, float]) -> None:
        if self.file is None:
            return
        self.rows.append(scalars)
        if len(self.rows) < self.every:
            return
        means = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in scalars}
        self.rows.clear()
        speed = (seen - self.first) / (time.monotonic() - self.started)
        with writing(self.path):
            self.file.write(json.dumps({"seen": seen, "pictures_per_second": round(speed, 1), **means}) + "\n")
            self.file.flush()


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's log, without a last line that was cut off."""
    path = folder / LOG
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _truncate(path: Path, seen: int) -> None:
    rows = read_log(path.parent)
    kept = [row for row in rows if row["seen"] <= seen]
    if path.is_file() and (len(kept) < len(rows) or not path.read_text().endswith("\n")):
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
