"""Stable Diffusion 3's pictures are diffusers' own, with T5 and without, and every verb takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

import fewstep
import verbs
from fewstep.errors import InvalidModel
from fewstep.models.saving import save
from miniature import _text_config, write_tokenizer

pytestmark = pytest.mark.slow

PROMPT, SEED = "a cat face", 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "sd3")


def write(home: Path, *, reads_t5: bool = True, shift_by_size: bool = False, **network: object) -> Path:
    """A model of a few thousand random weights, as diffusers writes it."""
    write_tokenizer(home.parent / "words")
    words = CLIPTokenizer.from_pretrained(home.parent / "words")
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2 if shift_by_size else 1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=40,
            **network,
        )
        clips = [
            CLIPTextModelWithProjection(_text_config(hidden_size=16, projection_dim=16)),
            CLIPTextModelWithProjection(_text_config(hidden_size=32, projection_dim=24)),
        ]
        t5 = T5EncoderModel(T5Config(vocab_size=40, d_model=64, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
        autoencoder = AutoencoderKL(
            block_out_channels=(8, 8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            scaling_factor=1.5,
            shift_factor=0.06,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=shift_by_size),
        autoencoder,
        clips[0],
        words,
        clips[1],
        words,
        t5 if reads_t5 else None,
        T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=256) if reads_t5 else None,
    ).save_pretrained(home)
    return home


@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("way", ["whole", "no t5", "by size", "3.5"])
def test_pictures_are_those_of_diffusers(tmp_path: Path, way: str, steps: int) -> None:
    newer = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if way == "3.5" else {}
    folder = write(tmp_path / "sd3", reads_t5=way != "no t5", shift_by_size=way == "by size", **newer)
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=steps, guidance_scale=5.0, negative_prompt="a dog")
    theirs = quiet(pipeline_of(folder))(
        PROMPT,
        negative_prompt="a dog",
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=steps,
        guidance_scale=5.0,
        height=64,
        width=64,
    ).images[0]
    assert verbs.as_array(ours).std() > 1
    assert np.abs(verbs.as_array(ours) - verbs.as_array(theirs)).max() <= 1


@pytest.mark.parametrize("steps", [4, 8])
def test_over_a_picture_they_are_those_of_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """diffusers draws from the encoder's posterior; we take its mode, and so it shall."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.image2image(model, PROMPT, verbs.picture(), seed=SEED, steps=steps, strength=0.5, guidance_scale=5.0)
    theirs = quiet(StableDiffusion3Img2ImgPipeline.from_pretrained(folder))(
        PROMPT,
        image=verbs.picture(),
        strength=0.5,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=steps,
        guidance_scale=5.0,
        height=64,
        width=64,
    ).images[0]
    assert np.abs(verbs.as_array(ours) - verbs.as_array(theirs)).max() <= 1


def pipeline_of(folder: Path) -> StableDiffusion3Pipeline:
    """diffusers wants to be told that a folder is without T5."""
    without = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    return StableDiffusion3Pipeline.from_pretrained(folder, **without).to(torch.float32)


def quiet(pipeline: StableDiffusion3Pipeline) -> StableDiffusion3Pipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("reads_t5", [True, False])
def test_it_is_saved_as_diffusers_reads_it(tmp_path: Path, reads_t5: bool) -> None:
    folder = write(tmp_path / "sd3", reads_t5=reads_t5)
    model = fewstep.load(folder, device="cpu")
    save(model, tmp_path / "saved", base=folder)
    again = pipeline_of(tmp_path / "saved")
    assert (again.text_encoder_3 is not None) == reads_t5
    assert again.scheduler.config.shift == 3.0
    ours, before = (
        verbs.as_array(fewstep.text2image(each, PROMPT, seed=SEED, steps=2))
        for each in (fewstep.load(tmp_path / "saved", device="cpu"), model)
    )
    assert np.array_equal(ours, before)


def test_a_lora_in_diffusers_names_does_what_it_does_there(folder: Path, tmp_path: Path) -> None:
    plain = fewstep.load(folder, device="cpu")
    layers = verbs.adapters.random_layers(plain.network.module, 1)
    file = verbs.adapters.write_diffusers(tmp_path / "ink.safetensors", {"transformer": layers}, alpha=4.0)
    ours = fewstep.text2image(
        fewstep.load(folder, device="cpu", loras=[file]), PROMPT, seed=SEED, steps=3, guidance_scale=3.0
    )
    pipeline = quiet(StableDiffusion3Pipeline.from_pretrained(folder))
    pipeline.load_lora_weights(file)
    theirs = pipeline(
        PROMPT,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=3,
        guidance_scale=3.0,
        height=64,
        width=64,
    ).images[0]
    without = fewstep.text2image(plain, PROMPT, seed=SEED, steps=3, guidance_scale=3.0)
    assert np.abs(verbs.as_array(ours) - verbs.as_array(theirs)).max() <= 1
    assert np.abs(verbs.as_array(ours) - verbs.as_array(without)).max() > 5


def test_what_it_has_not_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    save_file({"clip_l": torch.zeros(2, 16), "clip_g": torch.zeros(2, 32)}, tmp_path / "toy.safetensors")
    with pytest.raises(InvalidModel, match="no room for words of one's own"):
        fewstep.load(folder, device="cpu", embeddings=[tmp_path / "toy.safetensors"])
    with pytest.raises(InvalidModel, match="steer a U-Net, and sd3 has none"):
        fewstep.load(folder, device="cpu", controlnets=[tmp_path / "net"])


@pytest.mark.parametrize("verb", verbs.QUICK)
def test_it_is_used_as_any_other(folder: Path, tmp_path: Path, verb: str) -> None:
    verbs.QUICK[verb](folder, tmp_path)


@pytest.mark.parametrize("verb", verbs.SLOW)
def test_it_is_trained_and_measured_as_any_other(folder: Path, tmp_path: Path, verb: str) -> None:
    verbs.SLOW[verb](folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "scheduler"),
    [("--trajectory", "FlowMapEulerDiscreteScheduler"), ("--phases=1", "FlowMatchLCMScheduler")],
)
def test_what_is_distilled_paints_the_same_in_diffusers(
    folder: Path, tmp_path: Path, target: str, scheduler: str
) -> None:
    """The student's folder brings its scheduler; in one step, where no noise is drawn between, and in three."""
    run = verbs.distil(folder, tmp_path, target)
    pipeline, student = pipeline_of(run / "model"), fewstep.load(run / "model", device="cpu")
    assert type(pipeline.scheduler).__name__ == scheduler
    for steps in (1, 3) if target == "--trajectory" else (1,):
        ours = fewstep.text2image(student, PROMPT, seed=SEED, steps=steps)
        theirs = pipeline(
            PROMPT, num_inference_steps=steps, guidance_scale=1.0, generator=torch.Generator().manual_seed(SEED)
        ).images[0]
        assert np.abs(verbs.as_array(ours) - verbs.as_array(theirs)).max() <= 1
