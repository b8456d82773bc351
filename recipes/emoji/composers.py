"""Shards composed ahead by the other cores, for a device that learns faster than one core draws."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from recipes.emoji.compositions import draw_shard
from recipes.emoji.world import World

Drawn = tuple[np.ndarray, Sequence[tuple[str, ...]], Sequence[str]]


class Composers:
    """Processes that draw the next shards of the row of `seed` while the last one is learnt from."""

    def __init__(self, home: Path, seed: int, size: int, ahead: int | None = None) -> None:
        self.seed, self.size = seed, size
        self.ahead = ahead or max(1, (os.cpu_count() or 2) - 1)
        apart = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(self.ahead, apart, initializer=_open, initargs=(home,))
        self.waiting: dict[int, Future[Drawn]] = {}

    def __enter__(self) -> Composers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(cancel_futures=True)

    def shard(self, number: int) -> Drawn:
        """As `draw_shard` draws it; those after it are begun."""
        for each in range(number, number + self.ahead + 1):
            if each not in self.waiting:
                self.waiting[each] = self.pool.submit(_draw, self.seed, each * self.size, self.size)
        for old in [each for each in self.waiting if each < number]:
            del self.waiting[old]
        return self.waiting.pop(number).result()


_world: World


def _open(home: Path) -> None:
    global _world
    _world = World.open(home)


def _draw(seed: int, start: int, count: int) -> Drawn:
    return draw_shard(_world, seed, start, count)
