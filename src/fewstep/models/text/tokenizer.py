"""transformers' tokenizers and text encoders, as far as they are used here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, overload

from torch import Tensor


class Ids(Protocol):
    """Of one text."""

    @property
    def input_ids(self) -> list[int]: ...


class PaddedIds(Protocol):
    """Of several texts, (B, L) each."""

    @property
    def input_ids(self) -> Tensor: ...

    @property
    def attention_mask(self) -> Tensor: ...


class Tokenizer(Protocol):
    """Texts to the numbers of their tokens, and back."""

    model_max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int

    @overload
    def __call__(
        self, text: str, /, *, add_special_tokens: bool, truncation: bool = ..., verbose: bool = ...
    ) -> Ids: ...

    @overload
    def __call__(
        self, text: list[str], /, *, padding: str, max_length: int, truncation: bool, return_tensors: Literal["pt"]
    ) -> PaddedIds: ...

    def __hash__(self) -> int: ...

    def decode(self, ids: Sequence[int], /) -> str: ...

    def convert_tokens_to_ids(self, token: str, /) -> int: ...

    def get_vocab(self) -> Mapping[str, int]: ...

    def save_pretrained(self, folder: Path, /) -> object: ...


class EncoderOutput(Protocol):
    """What CLIP's text encoder returns; one with a projection has the embeddings, the other the pooled states."""

    @property
    def last_hidden_state(self) -> Tensor: ...

    @property
    def hidden_states(self) -> Sequence[Tensor]: ...

    @property
    def pooler_output(self) -> Tensor: ...

    @property
    def text_embeds(self) -> Tensor: ...
