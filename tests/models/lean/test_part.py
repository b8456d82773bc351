"""Lean parts against the classes that they stand for, in diffusers and transformers: equal to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.layer import AdaptedLayer, Shares
from fewstep.models.lean.autoencoder import Autoencoder
from fewstep.models.lean.clip_text import ClipTextModel
from fewstep.models.lean.part import LeanPart, twin_of
from fewstep.models.lean.unet import UNet
from fewstep.models.locating import STARTER, read_json
from fewstep.models.rebuilt import rebuilt

UNET = {"attention_head_dim": [2, 4], "block_out_channels": [32, 64], "cross_attention_dim": 16, "sample_size": 4}
UNET |= {"in_channels": 4, "out_channels": 4, "time_cond_proj_dim": 8, "addition_embed_type_num_heads": 2}
DEEPER = UNET | {
    "attention_head_dim": [2, 4, 4],
    "block_out_channels": [32, 64, 96],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2,
    "time_cond_proj_dim": None,
}
VAE = {"block_out_channels": [8, 8, 16, 16, 24], "latent_channels": 4}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 50}
Config = Mapping[str, Any]

pytestmark = pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="no weights yet")


def config_of(part: str, changes: Config) -> Config:
    """The starter's, of another shape."""
    return {**read_json(STARTER / part / "config.json"), **changes}


def random(part: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in part.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    return part.eval().requires_grad_(False)


def like(ours: LeanPart, theirs: nn.Module) -> nn.Module:
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("changes", [UNET, DEEPER])
def test_the_network(changes: Config) -> None:
    config = config_of("unet", changes)
    ours = random(UNet(config))
    theirs = like(ours, UNet2DConditionModel.from_config(config))
    for dtype in (torch.float32, torch.bfloat16):
        ours, theirs = ours.to(dtype), theirs.to(dtype)
        for rows, height, width in ((1, 4, 4), (3, 8, 12), (2, 6, 10)):
            x_t, text = noise(rows, 4, height, width).to(dtype), noise(rows, 7, 16).to(dtype)
            w = None if changes["time_cond_proj_dim"] is None else noise(rows, 8).to(dtype)
            for times in (torch.tensor(400), torch.arange(rows) * 300.5):
                expected = theirs(x_t, times, text, timestep_cond=w, return_dict=False)[0]
                assert torch.equal(ours(x_t, times, text, timestep_cond=w)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_autoencoder(dtype: torch.dtype) -> None:
    config = config_of("vae", VAE)
    ours = random(Autoencoder(config))
    theirs = like(ours, AutoencoderKL.from_config(config)).to(dtype)
    ours.to(dtype)
    pixels, latents = noise(2, 3, 48, 32).to(dtype), noise(2, 4, 3, 2).to(dtype)
    assert torch.equal(ours.encode(pixels).latents, theirs.encode(pixels).latent_dist.mode())
    assert torch.equal(ours.decode(latents)[0], theirs.decode(latents).sample)


def test_the_text_encoder() -> None:
    config = config_of("text_encoder", TEXT)
    ours = random(ClipTextModel(config))
    theirs = like(ours, CLIPTextModel(CLIPTextConfig.from_dict(dict(config))))
    ids = torch.tensor([[0, 7, 9, 1, 1, 1], [0, 3, 4, 5, 6, 1]])
    for some in (ids, ids[:1]):
        found, expected = ours(some), theirs(some)
        assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
        assert torch.equal(found.pooler_output, expected.pooler_output)


@pytest.mark.parametrize(("part", "kind"), [("unet", UNet), ("vae", Autoencoder), ("text_encoder", ClipTextModel)])
def test_a_config_that_says_anything_else_is_not_for_it(part: str, kind: type[LeanPart]) -> None:
    config = config_of(part, {})
    assert kind.fits(config)
    assert not kind.fits({**config, "new": None})
    for key in kind.assumes:
        assert not kind.fits({**config, key: "another"})
        assert not kind.fits({name: value for name, value in config.items() if name != key})
    assert not any(kind.fits(config_of(other, {})) for other in {"unet", "vae", "text_encoder"} - {part})


def test_a_network_of_unknown_blocks_is_not_for_it() -> None:
    for changes in ({"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}, {"attention_head_dim": 8}):
        assert not UNet.fits(config_of("unet", changes))
    assert not UNet.fits(config_of("unet", {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}))


def small(kind: type[LeanPart]) -> LeanPart:
    part, changes = {UNet: ("unet", UNET), Autoencoder: ("vae", VAE), ClipTextModel: ("text_encoder", TEXT)}[kind]
    return random(kind(config_of(part, changes)))


RUNS: dict[type[LeanPart], Callable[[Any], Tensor]] = {
    UNet: lambda each: each(noise(1, 4, 4, 4), torch.tensor(9), noise(1, 7, 16), return_dict=False)[0],
    Autoencoder: lambda each: each.decode(noise(1, 4, 2, 2), return_dict=False)[0],
    ClipTextModel: lambda each: each(torch.tensor([[0, 7, 1]])).last_hidden_state,
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_twin_is_the_others_own_object_with_the_same_layers(kind: type[LeanPart]) -> None:
    ours = small(kind)
    state = torch.random.get_rng_state()
    theirs = twin_of(ours)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (type(theirs).__name__, type(theirs).__module__) == kind.twin
    assert {name: id(weight) for name, weight in ours.named_parameters()} == {
        name: id(weight) for name, weight in theirs.named_parameters()
    }
    assert not any(buffer.is_meta for buffer in theirs.buffers())
    assert torch.equal(RUNS[kind](ours), RUNS[kind](theirs))
    assert twin_of(theirs) is theirs


def test_a_twin_has_the_adapters_too() -> None:
    ours = small(UNet)
    layer = ours.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0")
    shares = Shares()
    shares.now = [1.0]
    change = LoraLayer(noise(2, 64), noise(64, 2), 2.0)
    adapted = rebuilt(ours, {layer: AdaptedLayer.on(layer, shares, {0: change})})
    run = RUNS[UNet]
    assert torch.equal(run(adapted), run(twin_of(adapted)))
    assert not torch.equal(run(adapted), run(ours))


def test_an_autoencoder_that_is_handed_over_decodes_in_tiles() -> None:
    ours = small(Autoencoder)
    latents = noise(1, 4, 6, 6)
    whole = ours.decode(latents)[0]
    twin = ours.handed_over()
    assert twin is ours.handed_over()
    assert torch.equal(ours.decode(latents)[0], whole)
    twin.enable_tiling()
    twin.tile_sample_min_size, twin.tile_latent_min_size = 64, 4
    in_tiles = ours.decode(latents)[0]
    assert torch.equal(in_tiles, twin.decode(latents).sample)
    assert not torch.equal(in_tiles, whole)
