"""Which combinations no training picture shows: a stable draw of five in a hundred."""

from __future__ import annotations

import hashlib

PERCENT = 5


def held_out(*parts: str) -> bool:
    """Of a combination such as ("blue", "pear") or ("two", "dog"); the order of its parts does not matter."""
    text = "combination|" + "|".join(sorted(parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100 < PERCENT
