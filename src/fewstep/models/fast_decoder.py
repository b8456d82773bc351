"""A decoder for live use: plain convolutions while the picture is small, and a pixel shuffle to its full size."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from fewstep.files import replacing, write_tensors
from fewstep.models import packed
from fewstep.models.lean.tiny_decoder import TinyDecoder
from fewstep.models.locating import PACKED

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class FastDecoderConfig:
    """latent_channels  of what is decoded
    channels           of every convolution but the last
    num_blocks         residual blocks at each size; between two sizes the sides double
    patch              pixels along each side that one place of the last size becomes, all at once
    """

    latent_channels: int
    channels: int = 64
    num_blocks: tuple[int, ...] = (4, 3, 1)
    patch: int = 4

    @property
    def pixels_per_latent(self) -> int:
        return 2 ** (len(self.num_blocks) - 1) * self.patch


class FastDecoder(nn.Module):
    """Latents (B, C, h, w), unscaled, to pixels (B, 3, H, W) in about [-1, 1], with H = h * `pixels_per_latent`.

    TAESD's decoder (Bohan 2023), but for its top: at full size even 16 channels cost more than all the rest, so the
    last convolution says every pixel of a patch (Shi et al. 2016, 1609.05158).
    """

    def __init__(self, config: FastDecoderConfig) -> None:
        super().__init__()
        self.config = config
        out = 3 * config.patch**2
        self.decoder = TinyDecoder(config.latent_channels, out, config.channels, config.num_blocks)

    def forward(self, latents: Tensor) -> Tensor:
        return pixel_shuffle(self.decoder(latents), self.config.patch)

    def save(self, folder: Path) -> None:
        """Weights in float16 and the configuration, into a folder that is there."""
        weights = {name: weight.half() for name, weight in self.state_dict().items()}
        write_tensors(folder / WEIGHTS, weights, {"format": "pt"})
        with replacing(folder / CONFIG) as partial:
            partial.write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> FastDecoder:
        """In float32, on the CPU, ready to use."""
        config = json.loads((folder / CONFIG).read_text())
        decoder = cls(FastDecoderConfig(**{**config, "num_blocks": tuple(config["num_blocks"])}))
        file = folder / PACKED
        decoder.load_state_dict(packed.read(file if file.is_file() else folder / WEIGHTS)[0])
        return decoder.to(torch.float32).eval().requires_grad_(False)
