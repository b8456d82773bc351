"""TAESD's decoder against diffusers' own: the same layers from the same seed, and the same pixels."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import DecoderTiny

from fewstep.models.lean.tiny_decoder import TinyDecoder


def test_it_is_diffusers_own() -> None:
    torch.manual_seed(0)
    ours = TinyDecoder(4, 12, 8, (2, 0, 1))
    torch.manual_seed(0)
    theirs = DecoderTiny(
        in_channels=4,
        out_channels=12,
        num_blocks=(2, 0, 1),
        block_out_channels=(8, 8, 8),
        upsampling_scaling_factor=2,
        act_fn="relu",
        upsample_fn="nearest",
    )
    weights = theirs.state_dict()
    assert {name: weight.tolist() for name, weight in ours.state_dict().items()} == {
        name: weight.tolist() for name, weight in weights.items()
    }
    latents = torch.randn(2, 4, 3, 5) * 3
    assert torch.equal(ours(latents), theirs(latents))
