"""`PlainText`: words to text states with an encoder that reads a prompt at once, and a mask of what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from fewstep.errors import InvalidModel
from fewstep.models.conditioning import Conditioning
from fewstep.models.text.prompt_weights import parse
from fewstep.models.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fewstep.models.text.own_words import Embeddings


@dataclass(frozen=True, eq=False)
class PlainText:
    """One tokenizer and one encoder, T5's or their like; the marks of prompts are read over.

    length  in tokens, of what is read of a prompt; the rest of a shorter one is masked
    lower   whether words are read in lower case
    """

    encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Tokenizer]
    length: int
    lower: bool = False

    def holding(self, encoders: Mapping[str, nn.Module]) -> PlainText:
        return replace(self, encoders={part: encoders[part] for part in self.encoders})

    def knowing(self, words: Embeddings) -> PlainText:
        raise InvalidModel("its text encoder has no room for words of one's own (embeddings)")

    def read(self, texts: Sequence[str], device: torch.device) -> Conditioning:
        ((tokenizer, encoder),) = zip(self.tokenizers.values(), self.encoders.values(), strict=True)
        tokens = tokenizer(
            [self._as_read(text) for text in texts],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        )
        mask = tokens.attention_mask.to(device)
        states = encoder(tokens.input_ids.to(device), attention_mask=mask)[0]
        return Conditioning(states, mask=mask.bool())

    def read_prompts(self, prompts: Sequence[str], device: torch.device) -> Conditioning:
        return self.read([words_of(prompt) for prompt in prompts], device)

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        return cond

    def num_windows(self, prompt: str) -> int:
        return 1

    def unread(self, prompt: str) -> str:
        beyond = self.too_long(words_of(prompt))
        return "" if beyond is None else beyond[2]

    def too_long(self, text: str) -> tuple[int, int, str] | None:
        (tokenizer,) = self.tokenizers.values()
        text = self._as_read(text)
        ids, room = tokenizer(text, add_special_tokens=False).input_ids, self.length - 1  # for the mark of the end
        return (len(ids), room, tokenizer.decode(ids[room:])) if len(ids) > room else None

    def _as_read(self, text: str) -> str:
        return text.lower().strip() if self.lower else text


def words_of(prompt: str) -> str:
    """A prompt without its marks."""
    return "".join(fragment.text for section in parse(prompt) for fragment in section)
