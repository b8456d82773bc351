"""An endless supply of compositions for a training: shards that are made as they are needed and then thrown away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewstep.files import write_tensors

Shard = Mapping[str, Tensor]
SIZE = 4096  # pictures in a shard
LIVES = 4  # how often each is seen, on average, before it goes


class Pool:
    """The newest `width` shards of a row without end.

    make    a shard by its number: tensors of `size` rows each
    folder  where shards are kept for a training that goes on

    A step draws from all shards alike, and every `size * LIVES` pictures the oldest makes room for a new one. Which
    ones are there depends on the pictures seen alone: a training that was interrupted sees what it would have seen.
    """

    def __init__(self, make: Callable[[int], Shard], folder: Path, width: int, size: int = SIZE) -> None:
        self.make, self.folder, self.width, self.size = make, folder, width, size
        self.shards: dict[int, Shard] = {}

    def advance(self, seen: int) -> None:
        """Bring the pool to where it is after `seen` pictures."""
        newest = seen // (self.size * LIVES)
        wanted = range(max(0, newest - self.width + 1), newest + 1)
        if list(self.shards) == list(wanted):
            return
        self.shards = {number: self.shards.get(number) or self._shard(number) for number in wanted}
        for file in self.folder.glob("*.safetensors"):
            if int(file.stem) not in wanted:
                file.unlink()

    def _shard(self, number: int) -> Shard:
        file = self.folder / f"{number:06d}.safetensors"
        if not file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(file, self.make(number))
        return load_file(file)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The tensors of `count` pictures, any of them as likely as any other."""
        shards = list(self.shards.values())
        drawn = torch.randint(len(shards) * self.size, (count,), generator=generator)
        rows = [drawn[drawn // self.size == place] % self.size for place in range(len(shards))]
        return {
            name: torch.cat([shard[name][some] for shard, some in zip(shards, rows, strict=True)]) for name in shards[0]
        }
