"""Pictures that an answer gave the address of, kept for whoever opens it.

A browser that opens an address shows no token, so the address is the secret: a name that nobody guesses.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from fewstep.errors import InvalidRequest

KEPT_SECONDS = 3600.0
KEPT_PICTURES = 256
KEPT_BYTES = 128 * 2**20  # in all, unless it is a single one


class UnknownPicture(InvalidRequest):
    """404 rather than 400."""

    status = 404


@dataclass(frozen=True)
class Kept:
    data: bytes
    media_type: str
    until: float


class KeptPictures:
    """The newest pictures, each for an hour at most."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, data: bytes, media_type: str, ending: str) -> str:
        """The name under which the picture is found, until it is forgotten."""
        name = f"{secrets.token_urlsafe(24)}.{ending}"
        self._kept[name] = Kept(data, media_type, monotonic() + KEPT_SECONDS)
        self._forget()
        return name

    def find(self, name: str) -> Kept:
        """Raises `UnknownPicture`."""
        self._forget()
        if name not in self._kept:
            raise UnknownPicture("there is no such picture (any more)")
        return self._kept[name]

    def _forget(self) -> None:
        """Drop what is too old, and the oldest where there are too many or too large ones."""
        now, num_bytes = monotonic(), sum(len(each.data) for each in self._kept.values())
        while self._kept:
            oldest = next(iter(self._kept.values()))
            too_many = len(self._kept) > KEPT_PICTURES or (num_bytes > KEPT_BYTES and len(self._kept) > 1)
            if not too_many and oldest.until > now:
                return
            self._kept.popitem(last=False)
            num_bytes -= len(oldest.data)
