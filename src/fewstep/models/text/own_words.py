"""Words of one's own in prompts: what each stands for, and where they are in a text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from fewstep.errors import InvalidRequest


@dataclass(frozen=True, eq=False)
class Embedding:
    """One file: its word, and the vectors (n, width) for each text encoder, or for the only one under ""."""

    word: str
    vectors: Mapping[str, Tensor]
    path: Path
    reference: str | None = None

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of the file's SHA-256."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]

    @property
    def count(self) -> int:
        return len(next(iter(self.vectors.values())))


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The words of a bundle's own.

    spans  by its lower-case word, the ids of each one's vectors: negative, and in the encoder's table from -1 downwards
    """

    words: tuple[Embedding, ...] = ()
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def plus(self, embedding: Embedding) -> Embeddings:
        """With one more; raises `InvalidRequest` for a word that is taken."""
        word = embedding.word.lower()
        if word in self.spans:
            raise InvalidRequest(f"two embeddings are called {embedding.word!r}: give one another word, FILE=WORD")
        first = sum(len(ids) for ids in self.spans.values()) + 1
        span = tuple(-number for number in range(first, first + embedding.count))
        return Embeddings((*self.words, embedding), {**self.spans, word: span})

    def split(self, text: str) -> list[str | tuple[int, ...]]:
        """A text in its pieces: words of the vocabulary as they stand, those of one's own as their ids."""
        if self._pattern is None:
            return [text]
        pieces: list[str | tuple[int, ...]] = []
        for number, piece in enumerate(self._pattern.split(text)):
            if number % 2:
                pieces.append(self.spans[piece.lower()])
            elif piece.strip():
                pieces.append(piece)
        return pieces

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """Finds the words, the longest first, where they are no part of a longer one."""
        longest_first = sorted(self.spans, key=len, reverse=True)
        words = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first)
        return re.compile(f"({words})", re.I) if words else None

    def name_of(self, token: int) -> str:
        """The word that a negative id is of."""
        return next(word for word, ids in self.spans.items() if token in ids)
