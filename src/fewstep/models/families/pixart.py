"""PixArt-alpha (2310.00426) and PixArt-Sigma (2403.04692): diffusion transformers that read T5's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from fewstep.core.profile import SamplingProfile
from fewstep.models.conditioning import Conditioning
from fewstep.models.config import Config, text, whole
from fewstep.models.families.base import AUTOENCODER, DiffusersNetwork, Family, Inputs, Network, Part, Size, Text
from fewstep.models.families.transformer import TransformerFamily
from fewstep.models.placement import dtype_of
from fewstep.models.text.plain import PlainText
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.traits import Traits

NETWORKS = {
    "transformer": Part(
        "transformer", {"PixArtTransformer2DModel": "diffusers.models.transformers.pixart_transformer_2d"}
    ),
    "vae": AUTOENCODER,
    "text_encoder": Part("text encoder T5", {"T5EncoderModel": "transformers.models.t5.modeling_t5"}),
}
TOKENIZERS = {
    "tokenizer": Part("tokenizer", {"T5Tokenizer": "transformers.models.t5.tokenization_t5"}, ("*.json", "*.model"))
}
ALPHA, SIGMA = "PixArtAlphaPipeline", "PixArtSigmaPipeline"
LENGTHS = {ALPHA: 120, SIGMA: 300}  # tokens that are read of a prompt


@dataclass(frozen=True, eq=False)
class PixArtNetwork(DiffusersNetwork):
    """sizes (B, 2) of the conditioning: height and width, where the network reads them."""

    @property
    def text_width(self) -> int:
        return whole(self.config, "cross_attention_dim")

    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        assert cond.mask is not None
        dtype = dtype_of(self.model)
        inputs: Inputs = {
            "hidden_states": x_t.to(dtype),
            "timestep": t,
            "encoder_hidden_states": cond.states.to(dtype),
            "encoder_attention_mask": cond.mask.to(dtype),
        }
        return inputs if cond.sizes is None else {**inputs, "resolution": cond.sizes.to(dtype)}

    def run(self, inputs: Inputs) -> Tensor:
        own = dict(inputs)
        resolution = own.pop("resolution", None)
        aspect = None if not isinstance(resolution, Tensor) else resolution[:, :1] / resolution[:, 1:]
        beside = {"resolution": resolution, "aspect_ratio": aspect}
        output: Tensor = self.model(**own, added_cond_kwargs=beside, return_dict=False)[0]
        return output[:, : whole(self.config, "in_channels")]  # the rest is a variance, which nothing here asks for


@dataclass(frozen=True, eq=False, kw_only=True)
class PixArtFamily(TransformerFamily):
    """reads_sizes  whether the network reads the picture's height and width, as alpha's at 1024 does"""

    networks: Mapping[str, Part] = field(default_factory=lambda: NETWORKS)
    tokenizers: Mapping[str, Part] = field(default_factory=lambda: TOKENIZERS)
    must_match: tuple[str, ...] = ("caption_channels",)
    reads_sizes: bool = False

    def recognise(self, config: Config) -> Family | None:
        if config.get("_class_name") != "PixArtTransformer2DModel":
            return None
        reads = config.get("use_additional_conditions")
        reads = config.get("sample_size") == 128 if reads is None else bool(reads)
        return self if reads == self.reads_sizes else None

    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        length = LENGTHS.get(text(index, "_class_name", ALPHA), LENGTHS[ALPHA])
        return PlainText(encoders, tokenizers, length, lower=True)

    def network(self, module: nn.Module) -> Network:
        return PixArtNetwork(module)

    def traits(self, network: Config, autoencoder: Config) -> Traits:
        return replace(super().traits(network, autoencoder), sizes="resolution" if self.reads_sizes else None)

    def sizes(self, picture: Size, corner: Size, crop: Size) -> tuple[int, ...] | None:
        return crop if self.reads_sizes else None

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        sigma = isinstance(text, PlainText) and text.length == LENGTHS[SIGMA]
        return {"_class_name": SIGMA if sigma else ALPHA}


FAMILIES = (PixArtFamily(name="PixArt"), PixArtFamily(name="PixArt at 1024", reads_sizes=True))
