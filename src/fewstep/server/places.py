"""Places for those who stay: each connection that generates has its own in the line, and one address only so many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fewstep.server.addresses import is_loopback
from fewstep.server.engine import Engine
from fewstep.server.scheduler import Busy, Lane

PER_ADDRESS = 16


class Places:
    """The places of an engine.

    per_address  connections from one address at once. This machine's own has no limit: behind it may be a proxy, and
                 everybody
    """

    def __init__(self, engine: Engine, per_address: int = PER_ADDRESS) -> None:
        self._engine, self._per_address = engine, per_address
        self._addresses: Counter[str] = Counter()

    @contextmanager
    def one(self, address: str) -> Iterator[Lane]:
        """A place in the line for somebody at this address; raises `Busy`."""
        if self._addresses[address] >= self._per_address and not is_loopback(address):
            raise Busy(f"{self._per_address} sessions from one address are enough", retry_after=10.0)
        self._addresses[address] += 1
        try:
            with self._engine.lane() as lane:
                yield lane
        finally:
            self._addresses[address] -= 1
            self._addresses += Counter()  # drops those at zero
