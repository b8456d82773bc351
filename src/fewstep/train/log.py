"""The run's log: means over some steps, a JSON line each, in `log.jsonl`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType


class RunLog:
    """Appends to `folder/log.jsonl` every `every` steps: pictures seen, their speed, the mean of each scalar."""

    def __init__(self, folder: Path, seen: int, every: int = 50) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "log.jsonl").open("a")
        self.rows: list[dict[str, float]] = []
        self.every, self.first, self.started = every, seen, time.monotonic()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def write(self, seen: int, scalars: dict[str, float]) -> None:
        self.rows.append(scalars)
        if len(self.rows) < self.every:
            return
        means = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in scalars}
        self.rows.clear()
        speed = (seen - self.first) / (time.monotonic() - self.started)
        self.file.write(json.dumps({"seen": seen, "pictures_per_second": round(speed, 1), **means}) + "\n")
        self.file.flush()
