"""Stable Diffusion 3 and 3.5 (2403.03206): a transformer that reads two CLIPs and T5 beside the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel
from fewstep.models.conditioning import Conditioning
from fewstep.models.config import Config, whole
from fewstep.models.families.base import AUTOENCODER, DiffusersNetwork, Family, Inputs, Network, Part, Text
from fewstep.models.families.sd3_file import read_transformer
from fewstep.models.families.transformer import TransformerFamily
from fewstep.models.placement import dtype_of
from fewstep.models.text.plain import words_of
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.traits import Traits
from fewstep.models.transformer_kinds import SD3

if TYPE_CHECKING:
    from fewstep.models.text.own_words import Embeddings

_CLIP = {"CLIPTextModelWithProjection": "transformers.models.clip.modeling_clip"}
_CLIP_WORDS = {"CLIPTokenizer": "transformers.models.clip.tokenization_clip"}
T5, T5_WORDS = "text_encoder_3", "tokenizer_3"
NETWORKS = {
    "transformer": Part("transformer", {"SD3Transformer2DModel": "diffusers.models.transformers.transformer_sd3"}),
    "vae": AUTOENCODER,
    "text_encoder": Part("text encoder CLIP-L", _CLIP),
    "text_encoder_2": Part("text encoder CLIP-G", _CLIP),
    T5: Part("text encoder T5", {"T5EncoderModel": "transformers.models.t5.modeling_t5"}),
}
TOKENIZERS = {
    "tokenizer": Part("tokenizer", _CLIP_WORDS, ("*.json", "*.txt")),
    "tokenizer_2": Part("tokenizer", _CLIP_WORDS, ("*.json", "*.txt")),
    T5_WORDS: Part("tokenizer", {"T5Tokenizer": "transformers.models.t5.tokenization_t5"}, ("*.json", "*.model")),
}
T5_LENGTH = 256  # tokens that it reads of a prompt


@dataclass(frozen=True, eq=False)
class ThreeReaders:
    """Two CLIPs and T5, which may be missing: zeros stand in its place, and less is understood.

    The marks of prompts are read over. States are (B, 77 + 256, D): CLIP-L's and CLIP-G's last but one side by side,
    then T5's; pooled ones (B, P) are those of both CLIPs.
    """

    encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Tokenizer]

    def holding(self, encoders: Mapping[str, nn.Module]) -> ThreeReaders:
        return replace(self, encoders={part: encoders[part] for part in self.encoders})

    def knowing(self, words: Embeddings) -> ThreeReaders:
        raise InvalidModel("its three text encoders have no room for words of one's own (embeddings)")

    def read(self, texts: Sequence[str], device: torch.device) -> Conditioning:
        found = [self._clip(end, texts, device) for end in ("", "_2")]
        states, pooled = (torch.cat(each, dim=-1) for each in zip(*found, strict=True))
        if T5 in self.encoders:
            more: Tensor = self.encoders[T5](self._ids(T5_WORDS, texts, T5_LENGTH, device))[0]
        else:
            more = states.new_zeros(len(states), T5_LENGTH, states.shape[-1])
        return Conditioning(torch.cat([widened(states, more.shape[-1]), more.to(states.dtype)], dim=1), pooled)

    def _clip(self, end: str, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        ids = self._ids(f"tokenizer{end}", texts, self._clip_length, device)
        output = self.encoders[f"text_encoder{end}"](ids, output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds

    @property
    def _clip_length(self) -> int:
        return self.tokenizers["tokenizer"].model_max_length

    def _ids(self, tokenizer: str, texts: Sequence[str], length: int, device: torch.device) -> Tensor:
        tokens = self.tokenizers[tokenizer](
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return tokens.input_ids.to(device)

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
        """By the reader of the longest texts that is there."""
        there = T5_WORDS in self.tokenizers
        tokenizer = self.tokenizers[T5_WORDS if there else "tokenizer"]
        room = T5_LENGTH - 1 if there else self._clip_length - 2  # for the marks of the ends
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return (len(ids), room, tokenizer.decode(ids[room:])) if len(ids) > room else None


def widened(states: Tensor, width: int) -> Tensor:
    """With zeros behind, up to `width` numbers a token."""
    return functional.pad(states, (0, width - states.shape[-1]))


@dataclass(frozen=True, eq=False)
class SD3Network(DiffusersNetwork):
    @property
    def text_width(self) -> int:
        return whole(self.config, "joint_attention_dim")

    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        assert cond.pooled is not None
        dtype = dtype_of(self.model)
        return {
            "hidden_states": x_t.to(dtype),
            "timestep": t.float(),
            "encoder_hidden_states": widened(cond.states, self.text_width).to(dtype),
            "pooled_projections": cond.pooled.to(dtype),
        }

    def run(self, inputs: Inputs) -> Tensor:
        output: Tensor = self.model(**inputs, return_dict=False)[0]
        return output


@dataclass(frozen=True, eq=False, kw_only=True)
class SD3Family(TransformerFamily):
    networks: Mapping[str, Part] = field(default_factory=lambda: NETWORKS)
    tokenizers: Mapping[str, Part] = field(default_factory=lambda: TOKENIZERS)
    optional: tuple[str, ...] = (T5, T5_WORDS)
    tiny: str | None = "madebyollin/taesd3"
    must_match: tuple[str, ...] = ("joint_attention_dim", "pooled_projection_dim")

    def recognise(self, config: Config) -> Family | None:
        return self if config.get("_class_name") == "SD3Transformer2DModel" else None

    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        return ThreeReaders(encoders, tokenizers)

    def network(self, module: nn.Module) -> Network:
        return SD3Network(module)

    def read_network(self, path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
        return read_transformer(path, config, dtype)

    def traits(self, network: Config, autoencoder: Config) -> Traits:
        return replace(super().traits(network, autoencoder), reads_pooled=True)

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        missing = {part: [None, None] for part in self.optional if part not in {**text.encoders, **text.tokenizers}}
        return {"_class_name": "StableDiffusion3Pipeline", "image_encoder": [None, None],
                "feature_extractor": [None, None], **missing}  # fmt: skip


FAMILIES = (SD3Family(name=SD3),)
