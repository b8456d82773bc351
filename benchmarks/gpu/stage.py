"""A stage's process: `python -m benchmarks.gpu.stage MODULE --records FILE --device cuda|cpu [--tiny] [--only-listed]`.

Every record is a line of JSON in FILE as soon as it is made: what ends the process later takes nothing away.
"""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.packages import only_listed


@dataclass(frozen=True)
class Bench:
    """What a stage is told, and where it writes.

    device  "cuda" or "cpu"
    tiny    whether sizes are those of a dry run
    """

    device: str
    tiny: bool
    records: Path

    def record(self, name: str, values: Any) -> None:
        """One result, by its name in the stage."""
        with self.records.open("a") as file:
            file.write(json.dumps({name: values}) + "\n")
        print(f"{name}: {json.dumps(values)}", flush=True)


def read_records(file: Path) -> dict[str, Any]:
    """All that a stage has written so far; a line that is not yet whole is left."""
    if not file.is_file():
        return {}
    whole = file.read_text().rpartition("\n")[0]
    return {name: values for line in whole.splitlines() for name, values in json.loads(line).items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only-listed", action="store_true")
    asked = parser.parse_args()
    if asked.only_listed:
        only_listed()
    importlib.import_module(asked.module).run(Bench(asked.device, asked.tiny, asked.records))


if __name__ == "__main__":
    main()
