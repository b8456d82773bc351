"""What every source of data gives: pictures that are not yet decoded, and what they show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Example:
    """One picture, not yet decoded, and what it shows; several captions are alternatives, drawn anew each time.

    problem  why it cannot be used, where that is known already
    """

    name: str
    picture: Path | bytes | None
    captions: tuple[str, ...]
    problem: str | None = None


class Source(Protocol):
    """Examples in a fixed order. `digest` changes whenever they do."""

    @property
    def where(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def __iter__(self) -> Iterator[Example]: ...


def digest_of(rows: Iterator[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]
