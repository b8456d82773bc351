"""Sessions whose connection is gone: their people may come back to them for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from fewstep.server.session import Session

RESUME_SECONDS = 60.0
MOST = 64
MOST_BYTES = 256 * 2**20  # of their pictures: one may have 16 million pixels, and its mask as many


class Parking:
    """Parked sessions by their token, for `seconds` each; the oldest go where there are more than `most`, or their
    pictures have more than `most_bytes`.

    They take no place in the line: whoever comes back finds a new one, or is told that the house is full.
    """

    def __init__(self, seconds: float = RESUME_SECONDS, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._seconds, self._most, self._most_bytes = seconds, most, most_bytes
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session: Session) -> None:
        self._sessions[session.token] = session, time.monotonic() + self._seconds
        self._forget()
        asyncio.get_running_loop().call_later(self._seconds + 0.1, self._forget)

    def claim(self, token: str | None) -> Session | None:
        """The session with this token, which then is parked no longer."""
        self._forget()
        return None if token is None else self._sessions.pop(token, (None, 0.0))[0]

    def clear(self) -> None:
        self._sessions.clear()

    def _forget(self) -> None:
        now, num_bytes = time.monotonic(), sum(session.pictures.num_bytes for session, _ in self._sessions.values())
        while self._sessions:
            oldest, until = next(iter(self._sessions.values()))
            if until > now and len(self._sessions) <= self._most and num_bytes <= self._most_bytes:
                return
            self._sessions.popitem(last=False)
            num_bytes -= oldest.pictures.num_bytes
