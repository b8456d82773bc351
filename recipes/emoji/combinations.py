"""Which combinations no training picture shows: those that evaluations ask for, and five in a hundred of all others."""

from __future__ import annotations

import hashlib
from functools import cache

from fewstep.evaluate.two_part_prompts import built_in
from recipes.emoji.nouns import key_of

PERCENT = 5


def held_out(*parts: str) -> bool:
    """Of a combination such as ("blue", "pear") or ("two", "dog"); the order of its parts does not matter."""
    text = "combination|" + "|".join(sorted(parts))
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100 < PERCENT
    return drawn or frozenset(parts) in _asked()


@cache
def _asked() -> frozenset[frozenset[str]]:
    """Those of the built-in two-part prompts."""
    return frozenset(frozenset((key_of(each.first), key_of(each.second))) for each in built_in())
