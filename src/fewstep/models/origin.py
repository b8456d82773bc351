"""`Origin`: where a model was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fewstep.models.overrides import Overrides


@dataclass(frozen=True)
class Origin:
    """Files and names; empty for a model in the making.

    folder        the model's own, where it lies in one
    reference     a name that loads the same model elsewhere (built in, or on the hub)
    weight_files  all that were read
    overrides     what it was loaded with in place of what its files say
    """

    folder: Path | None = None
    reference: str | None = None
    weight_files: tuple[Path, ...] = ()
    overrides: Overrides = field(default_factory=Overrides)

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of a SHA-256 over all weight files; "unsaved" without files."""
        return hash_of(self.weight_files) if self.weight_files else "unsaved"

    def changed(self) -> Origin:
        """That of a model whose weights are no longer those of the files."""
        return Origin(overrides=self.overrides)


def hash_of(files: Sequence[Path]) -> str:
    """The first 12 hex digits of a SHA-256 over the SHA-256 of each file."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
