"""What families of diffusion transformers have in common: where their network lies, and how its config is read."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.models.config import Config, whole, wholes
from fewstep.models.families.base import Family
from fewstep.models.traits import Traits


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformerFamily(Family):
    """The network cuts latents into patches of `patch_size` by `patch_size`, a token each."""

    denoiser: str = "transformer"

    def traits(self, network: Config, autoencoder: Config) -> Traits:
        levels = wholes(autoencoder, "block_out_channels", ()) or wholes(autoencoder, "encoder_block_out_channels")
        unit, patch = 2 ** (len(levels) - 1), whole(network, "patch_size")
        side = whole(network, "sample_size") * unit
        return Traits(
            default_size=(side, side),
            latent_channels=whole(network, "in_channels"),
            pixels_per_latent=unit,
            multiple=unit * patch,
            latents_per_token=patch,
        )
