"""SANA (2410.10629) and SANA-Sprint (2503.09641): linear transformers behind Gemma 2."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fewstep.core.profile import SamplingProfile
from fewstep.models.conditioning import Conditioning
from fewstep.models.config import Config, number, whole
from fewstep.models.families.base import DiffusersNetwork, Family, Inputs, Network, Part, Text
from fewstep.models.families.transformer import TransformerFamily
from fewstep.models.placement import dtype_of
from fewstep.models.text.plain import PlainText, words_of
from fewstep.models.text.tokenizer import Tokenizer

NETWORKS = {
    "transformer": Part("transformer", {"SanaTransformer2DModel": "diffusers.models.transformers.sana_transformer"}),
    "vae": Part("autoencoder", {"AutoencoderDC": "diffusers.models.autoencoders.autoencoder_dc"}),
    "text_encoder": Part("text encoder Gemma 2", {"Gemma2Model": "transformers.models.gemma2.modeling_gemma2"}),
}
TOKENIZERS = {
    "tokenizer": Part(
        "tokenizer", {"GemmaTokenizer": "transformers.models.gemma.tokenization_gemma"}, ("*.json", "*.model")
    )
}
LENGTH = 300  # tokens that the network reads


class Padding(Protocol):
    """Of a tokenizer: the side that short texts are filled up on."""

    padding_side: str


@cache
def instruction() -> str:
    """What stands before every prompt, and asks Gemma to see more in it ("complex human instruction" in diffusers)."""
    from diffusers.pipelines.sana.pipeline_sana import SanaPipeline

    lines: list[str] = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class InstructedText(PlainText):
    """Gemma's states (B, 300, D): of the mark of the beginning, and of the last 299 tokens behind the instruction.

    Negative prompts are read without the instruction. The last one is kept, for it is mostly the empty one.
    """

    _negative: dict[tuple[str, torch.device], Conditioning] = field(default_factory=dict, init=False, repr=False)

    def read(self, texts: Sequence[str], device: torch.device) -> Conditioning:
        (tokenizer,) = self.tokenizers.values()
        before = len(tokenizer(instruction(), add_special_tokens=True).input_ids)
        whole = replace(self, length=before + self.length - 2)  # without what both begin with, and one more
        cond = PlainText.read(whole, [instruction() + self._as_read(text) for text in texts], device)
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(1 - self.length, 0)])
        assert cond.mask is not None
        return replace(cond, states=cond.states[:, kept], mask=cond.mask[:, kept])

    def _as_read(self, text: str) -> str:
        return text if text.startswith(instruction()) else super()._as_read(text)

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        device = cond.states.device
        if (prompt, device) not in self._negative:
            read = PlainText.read(self, [words_of(prompt)], device)
            self._negative.clear()
            self._negative[prompt, device] = read
        return replace(self._negative[prompt, device], loras=cond.loras)

    def too_long(self, text: str) -> tuple[int, int, str] | None:
        (tokenizer,) = self.tokenizers.values()
        ids, room = tokenizer(self._as_read(text), add_special_tokens=False).input_ids, self.length - 2
        return (len(ids), room, tokenizer.decode(ids[room:])) if len(ids) > room else None


@dataclass(frozen=True, eq=False)
class SanaNetwork(DiffusersNetwork):
    """Predicts the velocity of a rectified flow. Sprint's embeds the guidance scale, and knows times from 0 to 1."""

    @property
    def text_width(self) -> int:
        return whole(self.config, "cross_attention_dim")

    @property
    def embeds_w(self) -> bool:
        return bool(self.config.get("guidance_embeds"))

    def student(self, w_dim: int | None) -> nn.Module:
        return super().student(None if self.embeds_w else w_dim)

    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        assert cond.mask is not None
        dtype = dtype_of(self.model)
        inputs: Inputs = {
            "hidden_states": x_t.to(dtype),
            "encoder_hidden_states": cond.states.to(dtype),
            "encoder_attention_mask": cond.mask.to(dtype),
        }
        if not self.embeds_w:
            return {**inputs, "timestep": t * number(self.config, "timestep_scale", 1.0)}
        scale = torch.ones(len(x_t), device=x_t.device) if w is None else w + 1.0
        guidance = scale.to(dtype) * number(self.config, "guidance_embeds_scale", 0.1)
        return {**inputs, "timestep": (t / 1000.0).float(), "guidance": guidance}

    def run(self, inputs: Inputs) -> Tensor:
        output: Tensor = self.model(**inputs, return_dict=False)[0]
        return output[:, : whole(self.config, "in_channels")]  # the rest is a variance, which nothing here asks for


@dataclass(frozen=True, eq=False, kw_only=True)
class SanaFamily(TransformerFamily):
    """sprint  whether the guidance scale is an input of the network, and its times go to 1"""

    networks: Mapping[str, Part] = field(default_factory=lambda: NETWORKS)
    tokenizers: Mapping[str, Part] = field(default_factory=lambda: TOKENIZERS)
    must_match: tuple[str, ...] = ("caption_channels", "in_channels", "guidance_embeds")
    sprint: bool = False

    def recognise(self, config: Config) -> Family | None:
        known = config.get("_class_name") == "SanaTransformer2DModel"
        return self if known and self.embeds_w(config) == self.sprint else None

    def embeds_w(self, network: Config) -> bool:
        return bool(network.get("guidance_embeds"))

    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        for tokenizer in tokenizers.values():
            cast("Padding", tokenizer).padding_side = "right"
        return InstructedText(encoders, tokenizers, LENGTH, lower=True)

    def network(self, module: nn.Module) -> Network:
        return SanaNetwork(module)

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        return {"_class_name": "SanaSprintPipeline" if self.sprint else "SanaPipeline"}


FAMILIES = (SanaFamily(name="SANA"), SanaFamily(name="SANA-Sprint", sprint=True))
