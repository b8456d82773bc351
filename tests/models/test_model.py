"""A model's parts do what diffusers' pipelines do with the same parts."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline

import fewstep
from fewstep.core.consistency import ConsistencyFunction
from fewstep.errors import FewstepWarning
from fewstep.models.conditioning import Conditioning
from fewstep.models.model import Model
from miniature import TOKENS, write_miniature

NEAR = {"atol": 1e-4, "rtol": 1e-4}  # division by the scale is undone up to rounding


@pytest.fixture(scope="module")
def with_kl(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fewstep.load(write_miniature(tmp_path_factory.mktemp("kl"), autoencoder="kl"), device="cpu")


def test_words_are_encoded_as_diffusers_does(family: Path) -> None:
    model = fewstep.load(family, device="cpu")
    theirs = LatentConsistencyModelPipeline.from_pretrained(family, dtype=torch.float32)
    for prompts in (["a red cat"], ["", "fox face, noto style"]):
        expected, _ = theirs.encode_prompt(prompts, torch.device("cpu"), 1, False)
        torch.testing.assert_close(model.encode_text(prompts).states, expected, atol=0, rtol=0)


def test_a_row_does_not_depend_on_its_company(student: Model) -> None:
    alone, together = student.encode_text(["a cat"]), student.encode_text(["a long red robot face", "a cat"])
    torch.testing.assert_close(together.states[1:], alone.states, atol=1e-6, rtol=0)


def test_a_prompt_that_is_too_long_warns_with_what_is_not_read(student: Model) -> None:
    fits, too_long = "cat " * (TOKENS - 2), "cat " * (TOKENS - 2) + "dog"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = student.encode_text([fits])
    with pytest.warns(FewstepWarning, match=f"has {TOKENS - 1} tokens and miniature reads {TOKENS - 2}.*'dog'"):
        cut = student.encode_text([too_long])
    torch.testing.assert_close(cut.states, whole.states)


@pytest.mark.parametrize("fixture", ["student", "with_kl"])
def test_the_autoencoder_is_scaled_both_ways(fixture: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(fixture)
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    encoded = model.autoencoder.module.encode(pixels)
    raw = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    latents = model.encode_images(pixels)
    torch.testing.assert_close(latents, raw * 0.7, **NEAR)
    assert latents.shape == (2, *model.traits.latent_shape(128, 128)) == (2, 16, 8, 8)
    torch.testing.assert_close(model.decode(latents), model.autoencoder.module.decode(raw).sample.clamp(-1, 1), **NEAR)


def test_sizes_follow_from_the_networks(student: Model) -> None:
    assert (student.traits.pixels_per_latent, student.traits.default_size) == (16, (128, 128))
    assert student.traits.latent_shape(64, 256) == (16, 4, 16)


def test_w_reaches_the_network_of_a_student_only(student: Model, teacher: Model) -> None:
    x_t, cond = torch.randn(1, 16, 8, 8), student.encode_text(["cat"])
    for model, depends in ((student, True), (teacher, False)):
        outputs = [model.denoise(x_t, 499, cond, w) for w in (2.0, 9.0)]
        assert torch.equal(*outputs) is not depends


def test_the_consistency_function_is_the_identity_on_clean_data(student: Model) -> None:
    x, cond = torch.randn(1, 16, 8, 8), student.encode_text(["cat"])
    f = ConsistencyFunction(student.denoise)
    torch.testing.assert_close(f(x, 0, cond, 3.0), x)
    assert not torch.allclose(f(x, 999, cond, 3.0), x, atol=0.1)


def test_conditionings_are_cut_stacked_and_spread() -> None:
    a = Conditioning(torch.randn(1, 4, 8), torch.randn(1, 8))
    b = Conditioning(torch.randn(2, 4, 8), torch.randn(2, 8))
    both = Conditioning.cat([a, b])
    assert len(both) == 3
    assert torch.equal(both[1:].states, b.states)
    spread = a.expand(5)
    assert spread.states.shape == (5, 4, 8)
    assert spread.pooled is not None
    assert torch.equal(spread.pooled[4], both[:1].to(dtype=torch.float32).pooled[0])  # type: ignore[index]
    with pytest.raises(ValueError, match="different kinds"):
        Conditioning.cat([a, Conditioning(torch.randn(1, 4, 8))])
