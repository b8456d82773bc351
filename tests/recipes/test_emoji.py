"""What the starter's recipe promises about its data and its latents, without the art itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.train.config import FitConfig
from fewstep.train.task import Undivided
from recipes.emoji import art, autoencoder, sheets
from recipes.emoji.art import STYLES, Picture, held_out
from recipes.emoji.export import write_student
from recipes.emoji.run import run
from recipes.starter import SIZES, STAGES, Starter


def picture(label: str = "violin", style: str = "noto") -> Picture:
    return Picture(label, ("instrument", "music", "violin"), style, "1f3bb", 7, held_out(label, style))


def test_five_percent_of_the_pairs_are_held_out_and_stay_the_same() -> None:
    drawn = [held_out(f"concept {i}", style) for i in range(4000) for style in STYLES]
    assert 0.04 < sum(drawn) / len(drawn) < 0.06
    assert [label for label in ("cat", "dog", "violin", "pizza", "sun", "owl") if held_out(label, "twemoji")] == []
    assert held_out("concept 40", "noto") == held_out("concept 40", "noto")


def test_captions_name_the_thing_or_its_tags_and_only_its_own_style() -> None:
    captions = list(picture().captions())
    assert captions[:2] == ["violin, noto style", "violin"]
    assert not any("twemoji" in caption or "fluent" in caption for caption in captions)
    assert any("music" in caption and "violin" not in caption for caption in captions)
    assert captions == list(picture().captions())


class FakePixels:
    """Noise that stands for the art."""

    def __init__(self, count: int) -> None:
        self.x = torch.rand(count, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        return self.x[rows]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_standardizing_whitens_the_latents_and_changes_no_decoded_picture() -> None:
    torch.manual_seed(0)
    vae = autoencoder.build().eval()
    pixels = FakePixels(6)
    before = autoencoder.reconstruct(vae, pixels.x)
    autoencoder.standardize(vae, pixels)  # type: ignore[arg-type]
    with torch.no_grad():
        posterior = vae.encode(pixels.x).latent_dist
    z = posterior.mode()
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(autoencoder.reconstruct(vae, pixels.x), before, atol=1e-4, rtol=0)
    assert float((posterior.sample(torch.Generator().manual_seed(0)) - z).abs().max()) < 0.02


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_decoder_that_goes_on_alone_changes_the_pictures_and_no_latent(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, pixels = autoencoder.build(), FakePixels(4)
    with torch.no_grad():
        latents, before = autoencoder.mode(vae, pixels.x), autoencoder.reconstruct(vae, pixels.x)
    objective = autoencoder.Reconstruction(vae, pixels, freeze_encoder=True)  # type: ignore[arg-type]
    fit = FitConfig(pictures=8, batch_size=2, lr=0.004, ema_halflife=2)
    with run(vae, Undivided(objective), len(pixels), fit, tmp_path).averaged(), torch.no_grad():
        assert torch.equal(autoencoder.mode(vae, pixels.x), latents)
        assert not torch.allclose(autoencoder.reconstruct(vae, pixels.x), before, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_the_recipe_has_every_stage_in_each_of_its_sizes(size: str) -> None:
    starter = Starter(SIZES[size](), Path("nowhere"))
    assert all(callable(getattr(starter, stage)) for stage in STAGES)


def test_what_was_distilled_joins_the_folder_of_its_teacher(
    tmp_path: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student's own parts and the art's licences; what it shares with its teacher stays as it is."""
    target = tmp_path / "export"
    shutil.copytree(miniature, target)
    for own in ("unet", "scheduler"):
        shutil.rmtree(target / own)
    monkeypatch.setattr(
        art, "load", lambda folder: ([picture(), Picture("owl", ("bird",), "fluent", "1f989", 7, held_out=True)], None)
    )
    write_student(tmp_path, target, miniature)
    model = fewstep.load(target, device="cpu")
    assert (model.profile.kind, model.profile.guidance.w_range, model.card.licences) == (
        "lcm",
        (2.0, 14.0),
        sheets.LICENCES,
    )
    assert fewstep.text2image(model, "owl", seed=0) == fewstep.text2image(
        fewstep.load(miniature, device="cpu"), "owl", seed=0
    )
    assert fewstep.load(target / "teacher", device="cpu").profile.kind == "diffusion"
    held_out = "These 2 pairs were never trained on by any part: owl (fluent); violin (noto)."
    assert held_out in (target / "README.md").read_text()
