"""The starter's tokenizer: a `CLIPTokenizer` of transformers, read by the library below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from tokenizers import Tokenizer

from fewstep.models.config import text, whole
from fewstep.models.locating import read_json

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
MARKS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokens(NamedTuple):
    input_ids: list[int]


class ClipTokenizer:
    """Words to ids and back, in transformers' names, from a folder as transformers 5 writes it."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / CONFIG)
        self._folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / FILE))
        self.model_max_length = whole(config, "model_max_length")
        ids = cast("Iterator[int]", (self._tokenizer.token_to_id(text(config, mark)) for mark in MARKS))
        self.bos_token_id, self.eos_token_id, self.pad_token_id, self._unknown = ids

    def __call__(
        self, words: str, /, *, add_special_tokens: bool = False, truncation: bool = False, verbose: bool = False
    ) -> Tokens:
        """The ids of a text, however long, without the marks of start and end."""
        return Tokens(self._tokenizer.encode(words, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        said: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return said.replace("</w>", " ").strip()

    def convert_tokens_to_ids(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        return self._unknown if found is None else found

    def get_vocab(self) -> Mapping[str, int]:
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    def make_twin(self) -> Any:
        """transformers' own."""
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(self._folder, local_files_only=True)
