"""What the families with a U-Net share: the network, and how it is told from others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewstep.core.guidance import w_embedding
from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel
from fewstep.models.conditioning import Conditioning
from fewstep.models.config import Config, whole, wholes
from fewstep.models.families.architecture import blank
from fewstep.models.families.base import AUTOENCODER, DiffusersNetwork, Family, Inputs, Network, Part, Text
from fewstep.models.families.layout import Layout
from fewstep.models.families.unet_file import W_EMBEDDING, read_unet
from fewstep.models.families.unet_names import stability_names
from fewstep.models.placement import dtype_of
from fewstep.models.text.clip import ClipText
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.traits import Traits

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NETWORKS = {
    "unet": Part("U-Net", {"UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition"}),
    "vae": AUTOENCODER,
    "text_encoder": Part(
        "text encoder of Stable Diffusion", {"CLIPTextModel": "transformers.models.clip.modeling_clip"}
    ),
}
TOKENIZER = Part("tokenizer", {"CLIPTokenizer": "transformers.models.clip.tokenization_clip"}, ("*.json", "*.txt"))
ADDED = ("text_embeds", "time_ids", "image_embeds")  # inputs that diffusers takes together


@dataclass(frozen=True, eq=False)
class UNet(DiffusersNetwork):
    """A `UNet2DConditionModel`; where its `time_cond_proj_dim` is set, w is embedded and enters beside the time."""

    model: UNet2DConditionModel

    @property
    def text_width(self) -> int:
        return whole(self.config, "cross_attention_dim")

    @property
    def embeds_w(self) -> bool:
        return self.config.get("time_cond_proj_dim") is not None

    @property
    def takes_w(self) -> bool:
        return True

    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        dtype = dtype_of(self.model)
        inputs: Inputs = {
            "sample": x_t.to(dtype),
            "timestep": t,
            "encoder_hidden_states": cond.states.to(dtype),
        }
        if self.embeds_w and w is not None:
            inputs["timestep_cond"] = w_embedding(w, whole(self.config, "time_cond_proj_dim")).to(x_t.device, dtype)
        if reads_sizes(self.config):
            if cond.pooled is None or cond.sizes is None:
                raise ValueError("this network reads pooled text states and sizes: see `LatentModel.conditioned`")
            inputs |= {"text_embeds": cond.pooled.to(dtype), "time_ids": cond.sizes.to(dtype)}
        return inputs

    def run(self, inputs: Inputs) -> Tensor:
        rest = {name: value for name, value in inputs.items() if name not in ("sample", "timestep", *ADDED)}
        added = {name: inputs[name] for name in ADDED if name in inputs} or None
        output: Tensor = self.model(
            inputs["sample"], inputs["timestep"], **rest, added_cond_kwargs=added, return_dict=False
        )[0]
        return output

    @torch.no_grad()
    def student(self, w_dim: int | None) -> nn.Module:
        """w enters through a projection that starts at zero."""
        from diffusers import UNet2DConditionModel

        config = dict(self.config)
        if config.get("time_cond_proj_dim") is None:
            config["time_cond_proj_dim"] = w_dim
        with torch.random.fork_rng(devices=[]):
            student: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
        result = student.load_state_dict(self.model.state_dict(), strict=False)
        if result.missing_keys not in ([], [W_EMBEDDING]) or result.unexpected_keys:
            strange = result.missing_keys + result.unexpected_keys
            raise InvalidModel(f"a student cannot be made of this network: {strange}")
        if result.missing_keys:
            student.time_embedding.cond_proj.weight.zero_()
        return student.to(self.model.device).requires_grad_(True)


@dataclass(frozen=True, eq=False, kw_only=True)
class UNetFamily(Family):
    """A base of the kind of Stable Diffusion 1 and 2: one text encoder, and a network that reads its states alone.

    text_width  of the states
    shapes      of the published models, by folder: the arguments that differ from the libraries' defaults
    layout      of the U-Net; one of another layout was cut out of it
    pruned      it was cut out of another family's itself
    prediction  of single files in which nothing says it
    padding     of its tokenizers, where that is not the mark of the end
    """

    text_width: int
    shapes: Mapping[str, Config] = field(default_factory=dict)
    layout: Layout | None = None
    pruned: bool = False
    prediction: str = "epsilon"
    padding: Mapping[str, str] = field(default_factory=dict)
    denoiser: str = "unet"
    networks: Mapping[str, Part] = field(default_factory=lambda: NETWORKS)
    tokenizers: Mapping[str, Part] = field(default_factory=lambda: {"tokenizer": TOKENIZER})
    must_match: tuple[str, ...] = ("cross_attention_dim", "in_channels", "addition_embed_type")

    def recognise(self, config: Config) -> Family | None:
        if config.get("_class_name") != "UNet2DConditionModel" or reads_sizes(config):
            return None
        return self.of_width(whole(config, "cross_attention_dim", 1280))

    def of_width(self, width: int) -> UNetFamily:
        """The family itself, or its kin of unknown shapes."""
        if width == self.text_width:
            return self
        kin = f"a base with text states of {width}"
        return replace(self, name=kin, text_width=width, shapes={}, layout=None, tiny=None, prediction="epsilon")

    def fits(self, layout: Layout) -> bool:
        """Whether a U-Net of that layout is one of this family, with nothing cut out."""
        return layout == self.layout

    def described(self, layers: Iterable[str]) -> str:
        layout = Layout.of(layers)
        if self.layout is None or self.fits(layout):
            return self.name
        return f"a pruned {self.name} ({layout.blocks} transformer blocks, not {self.layout.blocks})"

    def blank(self, part: str) -> nn.Module:
        """A published network without weights."""
        return blank(part, self.shapes.get(part, {}))

    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        return ClipText(encoders, tokenizers)

    def network(self, module: nn.Module) -> Network:
        return UNet(module)

    def embeds_w(self, network: Config) -> bool:
        return network.get("time_cond_proj_dim") is not None

    def traits(self, network: Config, autoencoder: Config) -> Traits | None:
        levels = wholes(autoencoder, "block_out_channels", ()) or wholes(autoencoder, "encoder_block_out_channels", ())
        size, blocks = network.get("sample_size"), wholes(network, "block_out_channels", ())
        if not levels or not size or not blocks or "in_channels" not in network:
            return None
        unit = 2 ** (len(levels) - 1)
        height, width = (size, size) if isinstance(size, int) else wholes(network, "sample_size")
        return Traits(
            default_size=(height * unit, width * unit),
            latent_channels=whole(network, "in_channels"),
            pixels_per_latent=unit,
            multiple=unit * 2 ** (len(blocks) - 1),
        )

    def check(self, origin: Path, network: Config) -> None:
        check_channels(origin, whole(network, "in_channels"), whole(network, "out_channels"))

    def lora_names(self, part: str, layers: Collection[str], config: Config) -> Mapping[str, str]:
        """Those of Stability's code, for the U-Net."""
        return stability_names(layers, config) if part == self.denoiser else {}

    def read_network(self, path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
        return read_unet(path, config, dtype)

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        """The pipeline that walks as the profile says: LCM's own gives TCD's scheduler no eta, and breaks on it."""
        is_lcm = profile.guidance.embedded and profile.sampler == "lcm"
        return {
            "_class_name": "LatentConsistencyModelPipeline" if is_lcm else "StableDiffusionPipeline",
            "requires_safety_checker": False,
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "safety_checker": [None, None],
        }


def check_channels(origin: Path, in_channels: int, latent_channels: int) -> None:
    """Raises `InvalidModel` for a network that reads more than the latents: a mask, or another picture."""
    if in_channels > latent_channels:
        what = "an inpainting model" if in_channels == 2 * latent_channels + 1 else f"of {in_channels} input channels"
        raise InvalidModel(f"{origin} is {what}; fewstep works with ordinary text-to-image models (masks included)")


def reads_sizes(unet: Config) -> bool:
    """Whether sizes and crops are inputs of the network (SDXL), beside pooled text states."""
    return unet.get("addition_embed_type") == "text_time"
