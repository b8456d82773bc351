"""SDXL: the same pictures as diffusers' pipelines, for words, pictures, consistency models and adapters."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    LCMScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

import adapters
import fewstep
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.put_on import with_loras
from fewstep.models.adapters.lora.stack import LoraStack
from fewstep.models.adapters.record import Adapters
from fewstep.models.model import Model
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import Request
from fewstep.server.batching import SharedModel
from miniature import write_miniature_sdxl

PROMPT, SEED = "a blue cat", 3
SIZE = {"height": 96, "width": 160}
GREY_LEVELS = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sdxl(tmp_path_factory.mktemp("sdxl") / "sdxl")


@pytest.fixture
def model(folder: Path) -> Model:
    return fewstep.load(folder, device="cpu")


def pipeline_of(kind: type, folder: Path) -> Any:
    pipeline = kind.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_few_steps_of_an_lcm_lora_at_the_full_size_are_advised_against(model: Model, tmp_path: Path) -> None:
    layers = {"lora_unet": adapters.random_layers(model.network.module, 1)}
    paths = {kind: adapters.write_kohya(tmp_path / f"{kind}.safetensors", layers, alpha=2.0) for kind in ("lcm", "ink")}
    files = {kind: LoraFile.read(path) for kind, path in paths.items()}

    def advice(kind: str, sampler: str = "lcm", **options: Any) -> tuple[str, ...]:
        profile = model.profile.as_few_step({"sampler": sampler})
        loras = LoraStack((kind,), (files[kind],), (1.0,))
        fast = dataclasses.replace(model, profile=profile, adapters=Adapters(loras=loras))
        return complete(Request.of(PROMPT, SEED, **options), fast).advice

    (told,) = advice("lcm")
    assert "an LCM-LoRA on SDXL at its full size shows a grid in 4 steps: take 6 to 8" in told
    assert advice("lcm", steps=6) == advice("lcm", width=96, height=96) == ()
    assert advice("ink") == advice("lcm", "tcd") == ()


def noise_for(model: Model) -> torch.Tensor:
    return PictureNoise((SEED,)).draw(model.traits.latent_shape(**SIZE))


def apart(ours: Image.Image, theirs: Image.Image) -> int:
    assert np.asarray(ours).std() > 1, "a picture of one colour proves nothing"
    return int(np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max())


@pytest.mark.slow
@pytest.mark.parametrize("negative_prompt", ["", "red"])
@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
def test_words(folder: Path, model: Model, guidance_scale: float, negative_prompt: str) -> None:
    theirs = pipeline_of(StableDiffusionXLPipeline, folder)(
        PROMPT,
        negative_prompt=negative_prompt or None,
        latents=noise_for(model),
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        **SIZE,
    ).images[0]
    negative = {"negative_prompt": negative_prompt} if guidance_scale > 1 else {}
    ours = fewstep.text2image(
        model, PROMPT, seed=SEED, steps=4, sampler="ddim", guidance_scale=guidance_scale, **negative, **SIZE
    )
    assert apart(ours, theirs) <= GREY_LEVELS


def test_no_words_are_zeros_only_where_the_model_says_so(model: Model) -> None:
    assert model.text.drops_to_zeros
    assert model.encode_negative("").states.abs().max() == 0
    assert model.encode_negative("red").states.abs().max() > 0


def test_a_picture_to_start_from(folder: Path, model: Model) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8))
    pipeline = pipeline_of(StableDiffusionXLImg2ImgPipeline, folder)
    pipeline.vae.config["scaling_factor"] = model.autoencoder.module.config.scaling_factor
    with_mode = pipeline.vae.encode

    def encode(pixels: torch.Tensor) -> Any:  # the mode, as ours: a draw from the encoder's narrow Gaussian differs
        encoded = with_mode(pixels)
        encoded.latent_dist.sample = lambda generator=None: encoded.latent_dist.mode()
        return encoded

    pipeline.vae.encode = encode
    theirs = pipeline(
        PROMPT,
        image=picture,
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    options = {"steps": 4, "sampler": "ddim", "guidance_scale": 5.0, "strength": 0.5}
    ours = fewstep.image2image(model, PROMPT, picture, seed=SEED, **options, **SIZE)  # type: ignore[call-overload]
    assert apart(ours, theirs) <= GREY_LEVELS


def test_a_consistency_model(tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "lcm-sdxl", time_cond_proj_dim=256)
    model = fewstep.load(folder, device="cpu")
    assert (model.profile.kind, model.profile.guidance.embedded) == ("lcm", True)
    theirs = pipeline_of(StableDiffusionXLPipeline, folder)(
        PROMPT,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=4,
        guidance_scale=8.0,
        **SIZE,
    ).images[0]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=4, guidance_scale=8.0, **SIZE)
    assert apart(ours, theirs) <= GREY_LEVELS


@pytest.mark.slow
@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_adapters_for_the_network_and_both_text_encoders(
    folder: Path, model: Model, tmp_path: Path, spelling: str
) -> None:
    unet = adapters.random_layers(model.network.module, 1)
    first = adapters.with_prefix(adapters.random_layers(model.text.encoders["text_encoder"], 2))
    second = adapters.random_layers(model.text.encoders["text_encoder_2"], 3)
    path = tmp_path / "style.safetensors"
    if spelling == "kohya":
        adapters.write_kohya(path, {"lora_unet": unet, "lora_te1": first, "lora_te2": second}, alpha=2.0)
    else:
        parts = {"unet": unet, "text_encoder": first, "text_encoder_2": second}
        adapters.write_diffusers(path, parts, alpha=2.0)
    pipeline = pipeline_of(StableDiffusionXLPipeline, folder)
    pipeline.load_lora_weights(path, adapter_name="style")
    pipeline.set_adapters(["style"], [0.6])
    options = {"guidance_scale": 4.0, **SIZE}
    theirs = pipeline(PROMPT, latents=noise_for(model), num_inference_steps=3, **options).images[0]
    plain = fewstep.text2image(model, PROMPT, seed=SEED, steps=3, sampler="ddim", **options)
    styled = with_loras(model, [(path, 0.6)])
    ours = fewstep.text2image(styled, PROMPT, seed=SEED, steps=3, sampler="ddim", **options)
    assert apart(ours, theirs) <= GREY_LEVELS
    assert apart(ours, plain) > 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*by its name alone")  # as LCM-LoRAs are published
def test_an_lcm_lora(folder: Path, model: Model, tmp_path: Path) -> None:
    layers = {"lora_unet": adapters.random_layers(model.network.module, 1)}
    path = adapters.write_kohya(tmp_path / "lcm-lora-sdxl.safetensors", layers, alpha=2.0)
    pipeline = pipeline_of(StableDiffusionXLPipeline, folder)
    pipeline.load_lora_weights(path)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    generator = torch.Generator().manual_seed(SEED)
    theirs = pipeline(PROMPT, generator=generator, num_inference_steps=4, guidance_scale=1.0, **SIZE).images[0]
    ours = fewstep.text2image(with_loras(model, [path]), PROMPT, seed=SEED, **SIZE)
    assert apart(ours, theirs) <= GREY_LEVELS


def test_it_is_served_as_it_is(model: Model) -> None:
    assert SharedModel(model).traits is model.traits


def test_a_folder_without_the_second_encoder_says_so(tmp_path: Path) -> None:
    broken = write_miniature_sdxl(tmp_path / "sdxl")
    shutil.rmtree(broken / "text_encoder_2")
    with pytest.raises(InvalidModel, match="of the SDXL kind and has no text_encoder_2/ folder; is it a refiner"):
        fewstep.load(broken)


def test_a_refiner_is_called_by_its_name(tmp_path: Path) -> None:
    refiner = write_miniature_sdxl(tmp_path / "refiner")
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(refiner / part)
    with pytest.raises(InvalidModel, match="refiner is an SDXL refiner, which only refines"):
        fewstep.load(refiner)
