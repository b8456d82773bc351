"""Encoded prompts, the lately used ones kept: typing one more letter elsewhere must not encode this one again."""

from __future__ import annotations

from collections import OrderedDict

from fewstep.models.conditioning import Conditioning

LIMIT_BYTES = 64 * 2**20

Key = tuple[str, tuple[float, ...]]


class PromptCache:
    """(prompt, LoRA weights) -> `Conditioning` of one row; the least recently used go when `limit` bytes are passed.

    Not thread-safe: it belongs to the thread that owns the network.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit, self.size = limit, 0
        self._rows: OrderedDict[Key, Conditioning] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Key) -> Conditioning | None:
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def put(self, key: Key, cond: Conditioning) -> None:
        """Keep a copy of its own: a slice of a batch would hold the whole batch."""
        if (old := self._rows.pop(key, None)) is not None:
            self.size -= old.nbytes
        own = cond.clone()
        self._rows[key] = own
        self.size += own.nbytes
        while self.size > self._limit:
            self.size -= self._rows.popitem(last=False)[1].nbytes
