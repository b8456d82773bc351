"""The starter's autoencoder: an `AutoencoderKL` of diffusers without attention."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.models.lean.blocks import Down, Resnet, Up
from fewstep.models.lean.part import Config, LeanPart

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

EPS = 1e-6


class Encoded(NamedTuple):
    """The mode of what diffusers has as a distribution."""

    latents: Tensor


class Autoencoder(LeanPart):
    twin = ("AutoencoderKL", "diffusers.models.autoencoders.autoencoder_kl")
    reads = (
        *("block_out_channels", "down_block_types", "in_channels", "latent_channels", "layers_per_block"),
        *("norm_num_groups", "out_channels", "sample_size", "scaling_factor", "shift_factor", "up_block_types"),
        "force_upcast",
    )
    assumes = {  # noqa: RUF012
        "act_fn": "silu",
        "latents_mean": None,
        "latents_std": None,
        "mid_block_add_attention": False,
        "use_post_quant_conv": True,
        "use_quant_conv": True,
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        latent = config["latent_channels"]
        self._decodes: tuple[AutoencoderKL] | None = None  # in a tuple: its layers are this one's already
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    @classmethod
    def fits(cls, config: Config) -> bool:
        plain = {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        return super().fits(config) and plain >= {*config["down_block_types"], *config["up_block_types"]}

    def encode(self, pixels: Tensor) -> Encoded:
        self._bring()
        return Encoded(self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)[0])

    def decode(self, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        self._bring()
        if self._decodes is not None:
            return cast("tuple[Tensor]", self._decodes[0].decode(latents, return_dict=False))
        return (self.decoder(self.post_quant_conv(latents)),)

    def handed_over(self) -> AutoencoderKL:
        """Its twin, which decodes in its place from now on: it can do so tile by tile."""
        if self._decodes is None:
            self._decodes = (cast("AutoencoderKL", self.make_twin()),)
        return self._decodes[0]

    def _bring(self) -> None:
        """What accelerate hooks on to `forward`, which is not called: bring the weights to the device."""
        if (hook := getattr(self, "_hf_hook", None)) is not None:
            hook.pre_forward(self)


class Level(nn.Module):
    """Residual layers, and a change of size after them but on the last level."""

    def __init__(self, widths: list[int], groups: int, **sampler: nn.Module) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(into, out, groups, EPS) for into, out in pairwise(widths))
        for name, module in sampler.items():
            self.add_module(name, nn.ModuleList([module]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            for each in cast("nn.ModuleList", layer):
                x = each(x)
        return x


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) to moments (B, 2 C, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, groups, layers = (
            list(config["block_out_channels"]),
            config["norm_num_groups"],
            config["layers_per_block"],
        )
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, (into, out) in enumerate(pairwise([widths[0], *widths])):
            smaller = {} if level == len(widths) - 1 else {"downsamplers": Down(out, padding=0)}
            self.down_blocks.append(Level([into, *[out] * layers], groups, **smaller))
        self.mid_block = Level([widths[-1]] * 3, groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return cast("Tensor", self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x)))))


class Decoder(nn.Module):
    """Latents (B, C, h, w) to pixels (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, groups = list(reversed(config["block_out_channels"])), config["norm_num_groups"]
        layers = config["layers_per_block"] + 1
        self.conv_in = nn.Conv2d(config["latent_channels"], widths[0], 3, padding=1)
        self.up_blocks = nn.ModuleList()
        for level, (into, out) in enumerate(pairwise([widths[0], *widths])):
            larger = {} if level == len(widths) - 1 else {"upsamplers": Up(out)}
            self.up_blocks.append(Level([into, *[out] * layers], groups, **larger))
        self.mid_block = Level([widths[0]] * 3, groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config["out_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return cast("Tensor", self.conv_out(F.silu(self.conv_norm_out(x))))
