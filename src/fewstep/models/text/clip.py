"""`ClipText`: words to text states, with one CLIP text encoder or, as SDXL does it, two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewstep.models.conditioning import Conditioning
from fewstep.models.text.prompt_weights import Fragment, parse
from fewstep.models.text.tokenizer import EncoderOutput, Tokenizer

if TYPE_CHECKING:
    from fewstep.models.text.own_words import Embeddings

MAX_WINDOWS = 8  # of a long prompt: 600 of CLIP's tokens
COMMA_REACH = 20 / 75  # of a window: how far back a comma is looked for, to end the window there


@dataclass(frozen=True)
class Window:
    """As many tokens as the encoder reads at once, without the marks of start and end, and how much each counts."""

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class ClipText:
    """One text encoder, or two whose states lie side by side.

    encoders, tokenizers  by their folders, in one order
    drops_to_zeros        SDXL: no words are zeros, not the states of an empty prompt
    words                 of one's own that prompts may use
    """

    encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Tokenizer]
    drops_to_zeros: bool = False
    words: Embeddings | None = None

    def holding(self, encoders: Mapping[str, nn.Module]) -> ClipText:
        return replace(self, encoders={part: encoders[part] for part in self.encoders})

    def knowing(self, words: Embeddings) -> ClipText:
        return replace(self, words=words)

    @cached_property
    def readers(self) -> tuple[TextReader, ...]:
        pairs = zip(self.tokenizers.values(), self.encoders.values(), strict=True)
        return tuple(TextReader(tokenizer, encoder, self.words) for tokenizer, encoder in pairs)

    def read(self, texts: Sequence[str], device: torch.device) -> Conditioning:
        return Conditioning(*joined([reader.read(texts, device) for reader in self.readers]))

    def read_prompts(self, prompts: Sequence[str], device: torch.device) -> Conditioning:
        """A long prompt is read window by window, and the states lie one behind the other; the pooled states are the
        first window's.
        """
        laid_out = [[reader.windows(prompt)[:MAX_WINDOWS] for prompt in prompts] for reader in self.readers]
        if any(len(windows) != len(laid_out[0][0]) for each in laid_out for windows in each):
            raise ValueError("prompts of several lengths cannot be encoded together: see `num_windows`")
        flat = [[window for windows in each for window in windows] for each in laid_out]
        weights = self.readers[0].weights(flat[0])
        empty = [Window()] if (weights != 1.0).any() else []
        states, pooled = joined(
            [reader.read_windows(windows + empty, device) for reader, windows in zip(self.readers, flat, strict=True)]
        )
        if empty:
            states = weighed(states[:-1], states[-1], weights)
        per_prompt = len(flat[0]) // len(prompts)
        return Conditioning(states.reshape(len(prompts), -1, states.shape[-1]), pooled[: len(flat[0]) : per_prompt])

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        if prompt or not self.drops_to_zeros:
            return cond
        pooled = None if cond.pooled is None else torch.zeros_like(cond.pooled)
        return replace(cond, states=torch.zeros_like(cond.states), pooled=pooled)

    def num_windows(self, prompt: str) -> int:
        """At most `MAX_WINDOWS`."""
        return min(len(self.readers[0].windows(prompt)), MAX_WINDOWS)

    def unread(self, prompt: str) -> str:
        return self.readers[0].words(self.readers[0].windows(prompt)[MAX_WINDOWS:])

    def too_long(self, text: str) -> tuple[int, int, str] | None:
        return self.readers[0].too_long(text)


@dataclass(frozen=True, eq=False)
class TextReader:
    """A tokenizer and the encoder that reads its tokens."""

    tokenizer: Tokenizer
    encoder: nn.Module
    embeddings: Embeddings | None = None  # words of one's own

    @property
    def room(self) -> int:
        """How many tokens a window holds between the marks of start and end: 75 for CLIP."""
        return int(self.tokenizer.model_max_length) - 2

    def windows(self, prompt: str) -> list[Window]:
        """A prompt with its marks (`prompt_weights`) as windows; one that fills up ends at a comma near its end."""
        return list(_windows(self.tokenizer, self.room, prompt, self.embeddings))

    def read(self, texts: Sequence[str], device: torch.device) -> EncoderOutput:
        """transformers' output for `texts` to the letter, padded or cut to one window, with all hidden states."""
        return self.read_windows([Window(tuple(self._ids(text)[: self.room])) for text in texts], device)

    def _ids(self, text: str) -> list[int]:
        return _tokens(self.tokenizer, text, self.embeddings)

    def read_windows(self, windows: Sequence[Window], device: torch.device) -> EncoderOutput:
        """The same for windows."""
        start, end, pad = (
            self.tokenizer.bos_token_id,
            self.tokenizer.eos_token_id,
            self.tokenizer.pad_token_id,
        )
        rows = [[start, *window.tokens, end] for window in windows]
        spare = [self.room + 2 - len(row) for row in rows]
        ids = [row + [pad] * left for row, left in zip(rows, spare, strict=True)]
        mask = [[1] * len(row) + [0] * left for row, left in zip(rows, spare, strict=True)]
        return self._encode(torch.tensor(ids), torch.tensor(mask), device)

    def weights(self, windows: Sequence[Window]) -> Tensor:
        """How much each place of each window counts, (windows, room + 2) float32; the marks and what is empty: 1."""
        rows = torch.ones(len(windows), self.room + 2)
        for row, window in zip(rows, windows, strict=True):
            row[1 : 1 + len(window.weights)] = torch.tensor(window.weights)
        return rows

    def words(self, windows: Sequence[Window]) -> str:
        """What stands in them."""
        return self._decoded([token for window in windows for token in window.tokens])

    def _decoded(self, tokens: Sequence[int]) -> str:
        """Words of one's own stand for themselves, once for all their vectors."""
        said: list[str] = []
        for own, run in groupby(tokens, key=lambda token: token < 0):
            these = list(run)
            if own and self.embeddings is not None:
                said += dict.fromkeys(map(self.embeddings.name_of, these))
            else:
                said.append(str(self.tokenizer.decode(these)))
        return " ".join(said)

    def too_long(self, text: str) -> tuple[int, int, str] | None:
        """(how many tokens a text has, how many a window holds, what lies beyond); None where all has room."""
        ids = self._ids(text)
        return (len(ids), self.room, self._decoded(ids[self.room :])) if len(ids) > self.room else None

    def _encode(self, ids: Tensor, mask: Tensor, device: torch.device) -> EncoderOutput:
        uses_mask = getattr(self.encoder.config, "use_attention_mask", False)
        mask_here = mask.to(device) if uses_mask else None
        output: EncoderOutput = self.encoder(ids.to(device), attention_mask=mask_here, output_hidden_states=True)
        return output


@lru_cache(maxsize=1024)
def _windows(tokenizer: Tokenizer, room: int, prompt: str, own: Embeddings | None) -> tuple[Window, ...]:
    """Kept, because a picture asks several times, and a live page for every picture."""
    return tuple(
        window for section in parse(prompt) for window in _cut(tokenizer, room, _weighed(tokenizer, section, own))
    )


def _tokens(tokenizer: Tokenizer, text: str, own: Embeddings | None) -> list[int]:
    """The ids of a text, however long."""
    ids: list[int] = []
    for piece in [text] if own is None else own.split(text):
        if isinstance(piece, str):
            ids += tokenizer(piece, truncation=False, verbose=False, add_special_tokens=False).input_ids
        else:
            ids += piece
    return ids


def _weighed(tokenizer: Tokenizer, section: Sequence[Fragment], own: Embeddings | None) -> list[tuple[int, float]]:
    ids = [_tokens(tokenizer, fragment.text, own) for fragment in section]
    return [(token, fragment.weight) for fragment, tokens in zip(section, ids, strict=True) for token in tokens]


def _cut(tokenizer: Tokenizer, room: int, tokens: list[tuple[int, float]]) -> Iterator[Window]:
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    while len(tokens) > room:
        near = range(room - 1, room - 1 - round(COMMA_REACH * room), -1)
        end = next((place + 1 for place in near if tokens[place][0] == comma), room)
        yield Window(*zip(*tokens[:end], strict=True))
        tokens = tokens[end:]
    yield Window(*zip(*tokens, strict=True)) if tokens else Window()


def joined(outputs: Sequence[EncoderOutput]) -> tuple[Tensor, Tensor]:
    """(states, pooled) from the encoders' outputs.

    One encoder, Stable Diffusion 1.x and 2.x: the last layer's states, normalised. Two, SDXL: both encoders' last
    states but one, side by side; the second's pooled.
    """
    if len(outputs) == 1:
        return outputs[0].last_hidden_state, outputs[0].pooler_output
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds


def weighed(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Token states (N, L, D) moved from (weights below 1: towards) those of an empty prompt (L, D):

    empty + weight (state - empty), as ComfyUI and compel do it: 0 is as if nothing were said, 1 as it was said.
    """
    share = weights.to(states)[..., None]
    return torch.where(share == 1.0, states, empty + share * (states - empty))
