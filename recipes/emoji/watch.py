"""What a training in the background is watched by, a line of JSON each time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fewstep.train.state import TrainState
from recipes.emoji.composed import Composed, watched
from recipes.emoji.found import found_rates
from recipes.emoji.pool import Shard

WATCHED = "watched.jsonl"
WATCHED_EVERY = 65_536  # pictures
FOUND_EVERY = 500_000


class Watch:
    """Writes down the losses on what is kept apart, of the averaged weights, every `WATCHED_EVERY` pictures, and every
    `FOUND_EVERY` what is found in pictures by them."""

    def __init__(self, file: Path, objective: Composed, shards: Mapping[str, Shard]) -> None:
        self.file, self.objective, self.shards = file, objective, shards
        rows = read_rows(file)
        self.done = max((row["seen"] for row in rows), default=-WATCHED_EVERY)
        self.found = max((row["seen"] for row in rows if "found two parts" in row), default=0)

    def __call__(self, state: TrainState) -> None:
        if state.seen < self.done + WATCHED_EVERY:
            return
        with state.averaged():
            row = {"seen": state.seen, **watched(self.objective, self.shards)}
            if state.seen // FOUND_EVERY > self.found // FOUND_EVERY:
                row |= found_rates(self.objective.model)
                self.found = state.seen
        with self.file.open("a") as log:
            log.write(json.dumps({name: round(value, 5) for name, value in row.items()}) + "\n")
        self.done = state.seen


def read_rows(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
