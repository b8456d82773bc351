"""The rows of docs/models.md as people combine them: bases, adapters on adapters, models with times of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

import adapters
import fewstep
from fewstep.core.noise import PictureNoise
from fewstep.models.model import Model
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import Request
from miniature import write_miniature_sd1, write_miniature_sd2, write_miniature_sdxl

pytestmark = pytest.mark.filterwarnings("ignore:.*by its name alone")  # as LCM-LoRAs are published

PROMPT, SEED = "a blue cat", 3
GREY_LEVELS = 1
Write = Callable[[Path], Path]


def apart(ours: Image.Image, theirs: Image.Image) -> int:
    assert np.asarray(ours).std() > 1, "a picture of one colour proves nothing"
    return int(np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max())


def pipeline_of(kind: Any, folder: Path) -> Any:
    pipeline = kind.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_for(model: Model) -> torch.Tensor:
    return PictureNoise((SEED,)).draw(model.traits.latent_shape(128, 128))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_sd2_with_v_prediction(tmp_path: Path, sampler: str) -> None:
    folder = write_miniature_sd2(tmp_path / "sd2")
    model = fewstep.load(folder, device="cpu")
    assert model.profile.prediction.name == "v_prediction"
    pipeline = pipeline_of(StableDiffusionPipeline, folder)
    if sampler == "dpm++":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    theirs = pipeline(PROMPT, latents=noise_for(model), num_inference_steps=6, guidance_scale=4.0).images[0]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=6, guidance_scale=4.0, sampler=sampler)
    assert apart(ours, theirs) <= GREY_LEVELS


def write_adapters(home: Path, model: Model) -> tuple[Path, Path]:
    """An LCM-LoRA as the published ones are spelled (kohya's keys, alphas, convolutions), and a style in diffusers'."""
    layers = adapters.random_layers(model.network.module, 1, size=0.15)
    assert any(down.ndim == 4 for down, _ in layers.values())
    home.mkdir(exist_ok=True)
    lcm = adapters.write_kohya(home / "lcm-lora.safetensors", {"lora_unet": layers}, 2.0)
    style = {"unet": adapters.random_layers(model.network.module, 2, size=0.15)}
    return lcm, adapters.write_diffusers(home / "ink.safetensors", style, 3.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`", "ignore:an LCM-LoRA on SDXL")
@pytest.mark.parametrize("write", [write_miniature_sd1, write_miniature_sd2, write_miniature_sdxl])
@pytest.mark.parametrize("weights", [(1.0, None), (1.0, 0.8)])
def test_lcm_lora_alone_and_with_a_style(write: Write, weights: tuple[float, float | None], tmp_path: Path) -> None:
    folder = write(tmp_path / "base")
    lcm, style = write_adapters(tmp_path / "loras", fewstep.load(folder, device="cpu"))
    wanted = {"lcm-lora": (lcm, weights[0])} | ({} if weights[1] is None else {"ink": (style, weights[1])})
    pipeline = pipeline_of(StableDiffusionXLPipeline if "sdxl" in write.__name__ else StableDiffusionPipeline, folder)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    for name, (path, _) in wanted.items():
        pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    pipeline.set_adapters(list(wanted), [weight for _, weight in wanted.values()])
    theirs = pipeline(
        PROMPT, generator=generator(), num_inference_steps=4, guidance_scale=1.0, height=128, width=128
    ).images[0]
    model = fewstep.load(folder, device="cpu", loras=list(wanted.values()))
    assert (model.profile.kind, model.profile.steps) == ("lcm", 4)
    assert apart(fewstep.text2image(model, PROMPT, seed=SEED), theirs) <= GREY_LEVELS


def test_strength_means_the_same_for_full_lcms_and_lcm_loras(tmp_path: Path) -> None:
    base = write_miniature_sd1(tmp_path / "base")
    lcm, _ = write_adapters(tmp_path / "loras", fewstep.load(base, device="cpu"))
    full = fewstep.load(write_miniature_sd1(tmp_path / "full", time_cond_proj_dim=256), device="cpu")
    for model in (full, fewstep.load(base, device="cpu", loras=[lcm])):
        request = Request.of(PROMPT, SEED, image=Image.new("RGB", (128, 128)), strength=0.5, steps=4)
        assert complete(request, model).timesteps.tolist() == [499, 379, 259, 139]


TRAILING = {"timestep_spacing": "trailing", "steps_offset": 1}


@pytest.mark.slow
@pytest.mark.parametrize("times", [(999,), (999, 499), (999, 749, 499, 249)])
def test_lightning_is_euler_at_its_own_times(times: tuple[int, ...], tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "sdxl")
    model = fewstep.load(folder, device="cpu")
    pipeline = pipeline_of(StableDiffusionXLPipeline, folder)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, **TRAILING)
    pipeline.scheduler.set_timesteps(len(times))
    assert pipeline.scheduler.timesteps.tolist() == list(times)
    sigma = float(pipeline.scheduler.sigmas[0])
    theirs = pipeline(
        PROMPT,
        latents=noise_for(model) * (sigma**2 + 1) ** 0.5 / sigma,  # diffusers scales the first noise a little smaller
        num_inference_steps=len(times),
        guidance_scale=0.0,
        height=128,
        width=128,
    ).images[0]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, sampler="ddim", timesteps=times, guidance_scale=1.0)
    assert apart(ours, theirs) <= GREY_LEVELS


def test_turbo_is_one_step_from_the_last_time(tmp_path: Path) -> None:
    folder = write_miniature_sdxl(tmp_path / "sdxl")
    model = fewstep.load(folder, device="cpu")
    pipeline = pipeline_of(StableDiffusionXLPipeline, folder)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config, **TRAILING)
    pipeline.scheduler.set_timesteps(1)
    sigma = float(pipeline.scheduler.sigmas[0])
    theirs = pipeline(
        PROMPT,
        latents=noise_for(model) * (sigma**2 + 1) ** 0.5 / sigma,
        num_inference_steps=1,
        guidance_scale=0.0,
        height=128,
        width=128,
    ).images[0]
    for sampler in ("ddim", "lcm"):
        ours = fewstep.text2image(model, PROMPT, seed=SEED, sampler=sampler, timesteps=[999], guidance_scale=1.0)
        assert apart(ours, theirs) <= GREY_LEVELS


@pytest.mark.slow
def test_hyper_is_an_adapter_and_ddim_at_its_own_times(tmp_path: Path) -> None:
    folder = write_miniature_sd1(tmp_path / "sd1")
    _, style = write_adapters(tmp_path / "loras", fewstep.load(folder, device="cpu"))
    pipeline = pipeline_of(StableDiffusionPipeline, folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **TRAILING, set_alpha_to_one=True)
    pipeline.load_lora_weights(style.parent, weight_name=style.name)
    model = fewstep.load(folder, device="cpu", loras=[style])
    theirs = pipeline(PROMPT, latents=noise_for(model), num_inference_steps=8, guidance_scale=0.0).images[0]
    times = [999, 874, 749, 624, 499, 374, 249, 124]
    ours = fewstep.text2image(model, PROMPT, seed=SEED, sampler="ddim", timesteps=times, guidance_scale=1.0)
    assert apart(ours, theirs) <= GREY_LEVELS
