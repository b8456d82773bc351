"""The fast decoder: what is saved is what is read, patches lie in their places, and it draws what the full one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

import fewstep
from conftest import HAS_STARTER
from fewstep.core.consistency import ConsistencyFunction
from fewstep.errors import InvalidModel
from fewstep.models.fast_decoder import FastDecoder, FastDecoderConfig
from fewstep.models.folder import brings_fast_decoder
from fewstep.models.locating import FAST_DECODER, PACKED, STARTER
from fewstep.models.model import Model
from miniature import write_miniature

SMALL = FastDecoderConfig(latent_channels=16, channels=8, num_blocks=(1, 1, 1, 1), patch=2)


@pytest.fixture
def bringing(tmp_path: Path) -> Path:
    """The miniature, with a fast decoder of its own."""
    folder = write_miniature(tmp_path / "bringing", autoencoder="kl")
    (folder / FAST_DECODER).mkdir()
    torch.manual_seed(0)
    FastDecoder(SMALL).save(folder / FAST_DECODER)
    return folder


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    decoder = FastDecoder(SMALL).half().float()
    decoder.save(tmp_path)
    x = torch.randn(2, 16, 3, 5)
    again = FastDecoder.load(tmp_path)
    assert again.config == SMALL
    assert torch.equal(again(x), decoder(x))
    assert again(x).shape == (2, 3, 3 * SMALL.pixels_per_latent, 5 * SMALL.pixels_per_latent)


def test_a_patch_lies_where_its_latent_lies() -> None:
    """A change of one latent changes pixels around its own place, and the farther the less: none half a picture off."""
    torch.manual_seed(0)
    decoder = FastDecoder(FastDecoderConfig(latent_channels=4, channels=8, num_blocks=(0, 0), patch=4))
    x = torch.zeros(1, 4, 12, 12)
    y = x.clone()
    y[:, :, 2, 8] = 1
    changed = (decoder(x) - decoder(y)).abs().sum((0, 1)) > 1e-6
    rows, columns = changed.nonzero(as_tuple=True)
    side = decoder.config.pixels_per_latent
    assert (rows.float().mean() / side - 2.5).abs() < 1
    assert (columns.float().mean() / side - 8.5).abs() < 1
    assert rows.max() - rows.min() < 6 * side


def test_a_model_decodes_with_what_it_brings(bringing: Path) -> None:
    full, fast = (fewstep.load(bringing, device="cpu", vae=vae) for vae in (None, "fast"))
    assert brings_fast_decoder(bringing)
    assert full.origin.hash != fast.origin.hash
    x = torch.randn(2, *full.traits.latent_shape(*full.traits.default_size))
    expected = FastDecoder.load(bringing / FAST_DECODER)(x / full.autoencoder.module.config.scaling_factor)
    assert torch.equal(fast.decode(x), expected.clamp(-1, 1))
    pixels = torch.rand(1, 3, *full.traits.default_size) * 2 - 1
    assert torch.equal(fast.encode_images(pixels), full.encode_images(pixels))
    assert fewstep.text2image(fast, "a cat", seed=0).size == fewstep.text2image(full, "a cat", seed=0).size


def test_the_teacher_shares_it(bringing: Path) -> None:
    assert brings_fast_decoder(bringing / "teacher")
    assert not brings_fast_decoder(bringing / "unet")


def test_the_full_autoencoder_is_what_gets_saved(bringing: Path, tmp_path: Path) -> None:
    fast: Model = fewstep.load(bringing, device="cpu", vae="fast")
    fast.autoencoder.module.save_pretrained(tmp_path / "vae")
    saved, own = (AutoencoderKL.from_pretrained(folder / "vae").state_dict() for folder in (tmp_path, bringing))
    assert all(torch.equal(saved[name], weight) for name, weight in own.items())


def test_a_damaged_one_is_named(bringing: Path) -> None:
    config = bringing / FAST_DECODER / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "channels": 9}))
    with pytest.raises(InvalidModel, match="fast_decoder cannot be loaded"):
        fewstep.load(bringing, device="cpu", vae="fast")


@pytest.mark.skipif(not HAS_STARTER, reason="no weights yet")
def test_the_starters_draws_what_the_full_one_draws() -> None:
    full, fast = (fewstep.load("starter", device="cpu", vae=vae) for vae in (None, "fast"))
    cond = full.encode_text(["cat face, noto style", "red apple, twemoji style", "pizza, fluent style"])
    x_t = torch.randn(3, *full.traits.latent_shape(128, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x_0 = ConsistencyFunction(full.denoise)(x_t, 999, cond, 2.0)
    a, b = full.decode(x_0), fast.decode(x_0)
    decibels = 10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))
    assert decibels.min() > 21
    assert a.std() > 0.3
    assert (STARTER / FAST_DECODER / PACKED).stat().st_size < 2e6
