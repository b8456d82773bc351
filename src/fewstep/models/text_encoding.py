"""Words to text states, with one CLIP text encoder or, as SDXL does it, two side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import FewstepWarning


@dataclass(frozen=True, eq=False)
class TextReader:
    """A tokenizer and the encoder that reads its tokens."""

    tokenizer: Any
    encoder: Any

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.encoder.parameters()).device
        return device

    def read(self, prompts: Sequence[str]) -> Any:
        """transformers' output for `prompts`, padded or cut to the tokenizer's length, with all hidden states."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        uses_mask = getattr(self.encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if uses_mask else None
        return self.encoder(tokens.input_ids.to(self.device), attention_mask=mask, output_hidden_states=True)

    def warn_of_long(self, prompts: Sequence[str], name: str) -> None:
        """Warn where a prompt is longer than the tokenizer reads, and say what is not seen."""
        limit = self.tokenizer.model_max_length
        for prompt in dict.fromkeys(prompts):
            ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
            if len(ids) > limit:
                unread = self.tokenizer.decode(ids[limit - 1 : -1])
                warnings.warn(
                    f"the prompt has {len(ids) - 2} tokens and {name} reads {limit - 2}; it does not see: {unread!r}",
                    FewstepWarning,
                    stacklevel=4,
                )


def encode_once(reader: TextReader, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(states, pooled) as Stable Diffusion 1.x and 2.x read them: the last layer's states, normalised."""
    output = reader.read(prompts)
    return output.last_hidden_state, output.pooler_output


def encode_twice(first: TextReader, second: TextReader, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(states, pooled) as SDXL reads them: both encoders' last states but one, side by side; the second's pooled."""
    outputs = [reader.read(prompts) for reader in (first, second)]
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[1].text_embeds
