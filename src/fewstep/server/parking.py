"""Sessions whose connection is gone: their people may come back to them for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from fewstep.server.session import Session

RESUME_SECONDS = 60.0
MOST = 64  # each may hold a picture of some megabytes


class Parking:
    """Parked sessions by their token, for `seconds` each; the oldest go where there are more than `most`.

    They take no place in the line: whoever comes back finds a new one, or is told that the house is full.
    """

    def __init__(self, seconds: float = RESUME_SECONDS, most: int = MOST) -> None:
        self._seconds, self._most = seconds, most
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
        now = time.monotonic()
        while self._sessions:
            _, until = next(iter(self._sessions.values()))
            if until > now and len(self._sessions) <= self._most:
                return
            self._sessions.popitem(last=False)
