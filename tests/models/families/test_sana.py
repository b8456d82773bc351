"""SANA's and SANA-Sprint's pictures are diffusers' own, and every verb takes them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    SanaSprintImg2ImgPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

import fewstep
import verbs
from fewstep.cli.main import main
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel
from fewstep.imaging.pixels import to_pixels
from fewstep.models.saving import save

pytestmark = pytest.mark.slow

PROMPT, SEED = "A cat", 3
DPM = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}


@pytest.fixture(params=["sana", "sprint"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "sana", sprint=request.param == "sprint")


def write(home: Path, *, sprint: bool = False, scheduler: object = None) -> Path:
    """A model of a few thousand random weights, as diffusers writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
            sample_size=8,
            guidance_embeds=sprint,
            qk_norm="rms_norm_across_heads" if sprint else None,
        )
        encoder = Gemma2Model(
            Gemma2Config(
                vocab_size=40,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
            )
        )
        autoencoder = AutoencoderDC(
            latent_channels=4,
            attention_head_dim=8,
            encoder_block_out_channels=(8, 8, 8, 16),
            decoder_block_out_channels=(8, 8, 8, 16),
            encoder_layers_per_block=(1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            encoder_qkv_multiscales=((),) * 4,
            decoder_qkv_multiscales=((),) * 4,
            scaling_factor=0.41407,
        )
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = {each: number for number, each in enumerate([*marks, "▁", *"abcdefghijklmnopqrstuvwxyz,."])}
    kind = SanaSprintPipeline if sprint else SanaPipeline
    scheduler = scheduler or (SCMScheduler() if sprint else DPMSolverMultistepScheduler(**DPM))
    kind(GemmaTokenizer(vocab=letters), encoder, autoencoder, transformer, scheduler).save_pretrained(home)
    return home


class RealTimes(DPMSolverMultistepScheduler):
    """diffusers' DPM-Solver++ computes with real times, and tells the network whole ones: here the real ones, too."""

    def set_timesteps(self, *arguments: Any, **options: Any) -> None:
        super().set_timesteps(*arguments, **options)
        self.timesteps = self.sigmas[:-1] * self.config.num_train_timesteps


def by_diffusers(kind: type, folder: Path, steps: int, guidance: float, **options: Any) -> np.ndarray:
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(pipeline.scheduler, DPMSolverMultistepScheduler):
        pipeline.scheduler = RealTimes.from_config(pipeline.scheduler.config)
    made = pipeline(
        prompt=PROMPT,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=64,
        width=64,
        use_resolution_binning=False,
        clean_caption=False,
        **options,
    )
    return verbs.as_array(made.images[0])


@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("negative", ["", "a dog"])
@pytest.mark.parametrize("way", ["dpm", "euler"])
def test_pictures_are_those_of_diffusers(tmp_path: Path, way: str, negative: str, steps: int) -> None:
    folder = write(tmp_path / "sana", scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0) if way == "euler" else None)
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.text2image(
        model, PROMPT, seed=SEED, steps=steps, guidance_scale=4.5, **({"negative_prompt": negative} if negative else {})
    )
    expected = by_diffusers(SanaPipeline, folder, steps, 4.5, negative_prompt=negative)
    assert verbs.as_array(ours).std() > 1
    assert np.abs(verbs.as_array(ours) - expected).max() <= 1


@pytest.mark.parametrize("guidance", [3.0, 4.5])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_sprint_s_pictures_are_those_of_diffusers(tmp_path: Path, steps: int, guidance: float) -> None:
    folder = write(tmp_path / "sprint", sprint=True)
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.text2image(model, PROMPT, seed=SEED, steps=steps, guidance_scale=guidance)
    middle = 1.3 if steps == 2 else None
    expected = by_diffusers(SanaSprintPipeline, folder, steps, guidance, intermediate_timesteps=middle)
    assert verbs.as_array(ours).std() > 1
    assert np.abs(verbs.as_array(ours) - expected).max() <= 1


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_sprint_s_pictures_over_a_picture_are_those_of_diffusers(tmp_path: Path, steps: int) -> None:
    folder = write(tmp_path / "sprint", sprint=True)
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.image2image(model, PROMPT, verbs.picture(), seed=SEED, steps=steps, strength=0.5)
    expected = by_diffusers(
        SanaSprintImg2ImgPipeline,
        folder,
        steps,
        4.5,
        image=verbs.picture(),
        strength=0.5,
        intermediate_timesteps=1.3 if steps == 2 else None,
    )
    assert np.abs(verbs.as_array(ours) - expected).max() <= 1


@pytest.mark.parametrize("steps", [2, 8])
def test_over_a_picture_it_is_the_loop_over_diffusers_scheduler(tmp_path: Path, steps: int) -> None:
    folder = write(tmp_path / "sana")
    model = fewstep.load(folder, device="cpu")
    ours = fewstep.image2image(model, PROMPT, verbs.picture(), seed=SEED, steps=steps, strength=0.5, guidance_scale=4.5)
    pipeline = SanaPipeline.from_pretrained(folder)
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    states, mask, nothing, no_mask = pipeline.encode_prompt(PROMPT, complex_human_instruction=instruction)
    scheduler = RealTimes.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(steps // 2)
    with torch.no_grad():
        z = pipeline.vae.encode(to_pixels(verbs.picture(), 64, 64)).latent * 0.41407
        sigma = scheduler.sigmas[steps // 2]
        x_t = (1 - sigma) * z + sigma * PictureNoise((SEED,)).draw((4, 8, 8))
        for t in scheduler.timesteps[steps // 2 :]:
            both = pipeline.transformer(
                x_t.repeat(2, 1, 1, 1), torch.cat([nothing, states]), t.expand(2), None, torch.cat([no_mask, mask])
            ).sample
            away, toward = both.chunk(2)
            x_t = scheduler.step(away + 4.5 * (toward - away), t, x_t).prev_sample
        expected = pipeline.image_processor.postprocess(pipeline.vae.decode(x_t / 0.41407).sample, output_type="pil")[0]
    assert np.abs(verbs.as_array(ours) - verbs.as_array(expected)).max() <= 1


def test_sprint_is_no_teacher_and_can_be_fine_tuned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "sana", sprint=True)
    verbs.finetune(folder, tmp_path)
    pictures, run = str(tmp_path / "pictures"), str(tmp_path / "x")
    assert main(["distill", "--teacher", str(folder), "--data", pictures, "-o", run]) == 2
    assert "sana is a consistency model, and this needs a diffusion model" in capsys.readouterr().err


def test_it_is_saved_as_diffusers_reads_it(folder: Path, tmp_path: Path) -> None:
    model = fewstep.load(folder, device="cpu")
    save(model, tmp_path / "saved", base=folder)
    kind = SanaSprintPipeline if model.network.embeds_w else SanaPipeline
    more = {"intermediate_timesteps": None} if model.network.embeds_w else {}
    ours = fewstep.text2image(fewstep.load(tmp_path / "saved", device="cpu"), PROMPT, seed=SEED, steps=4)
    assert np.abs(verbs.as_array(ours) - by_diffusers(kind, tmp_path / "saved", 4, 4.5, **more)).max() <= 1


def test_a_lora_in_diffusers_names_does_what_it_does_there(folder: Path, tmp_path: Path) -> None:
    plain = fewstep.load(folder, device="cpu")
    layers = verbs.adapters.random_layers(plain.network.module, 1)
    file = verbs.adapters.write_diffusers(tmp_path / "ink.safetensors", {"transformer": layers}, alpha=4.0)
    ours = fewstep.text2image(fewstep.load(folder, device="cpu", loras=[file]), PROMPT, seed=SEED, steps=4)
    kind: Any = SanaSprintPipeline if plain.network.embeds_w else SanaPipeline
    more = {"intermediate_timesteps": None} if plain.network.embeds_w else {}
    pipeline = kind.from_pretrained(folder)
    pipeline.load_lora_weights(file)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(tmp_path / "fused")
    without = fewstep.text2image(plain, PROMPT, seed=SEED, steps=4)
    assert np.abs(verbs.as_array(ours) - by_diffusers(kind, tmp_path / "fused", 4, 4.5, **more)).max() <= 1
    assert np.abs(verbs.as_array(ours) - verbs.as_array(without)).max() > 5


def test_what_it_has_not_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="steer a U-Net, and sana has none"):
        fewstep.load(folder, device="cpu", controlnets=[tmp_path / "net"])


@pytest.mark.filterwarnings("ignore:sana has guidance inside")  # a session without guidance is among them
@pytest.mark.parametrize("verb", verbs.QUICK)
def test_it_is_used_as_any_other(folder: Path, tmp_path: Path, verb: str) -> None:
    verbs.QUICK[verb](folder, tmp_path)


@pytest.mark.parametrize("verb", verbs.SLOW)
def test_it_is_trained_and_measured_as_any_other(tmp_path: Path, verb: str) -> None:
    verbs.SLOW[verb](write(tmp_path / "sana"), tmp_path)
