"""PixArt's pictures are diffusers' own, every verb takes it, and it is the one file that docs/extending.md shows."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

import adapters
import fewstep
import verbs
from documents import blocks
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel
from fewstep.imaging.pixels import to_pixels
from fewstep.models.families import pixart
from fewstep.models.saving import save

DOCUMENT = Path(__file__).parents[3] / "docs" / "extending.md"
PROMPT, SEED = "A cat", 3
DPM = partial(
    DPMSolverMultistepScheduler, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", algorithm_type="dpmsolver++"
)


def test_the_documents_show_the_file_as_it_is() -> None:
    (shown,) = (block.text for block in blocks(DOCUMENT) if block.file == "pixart.py")
    assert shown.removeprefix("# pixart.py\n").strip() == Path(pixart.__file__).read_text(encoding="utf-8").strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "pixart")


def write(
    home: Path,
    kind: type[DiffusionPipeline] = PixArtAlphaPipeline,
    *,
    sizes: bool = False,
    shift: float | None = None,
    scheduler: object = None,
) -> Path:
    """A model of a few thousand random weights, as diffusers writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
            use_additional_conditions=sizes,
        )
        encoder = T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
        autoencoder = AutoencoderKL(
            block_out_channels=(8, 8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            shift_factor=shift,
        )
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    tokenizer = T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0, model_max_length=300
    )
    kind(tokenizer, encoder, autoencoder, transformer, scheduler or DPM()).save_pretrained(home)
    return home


def made(model: object, **options: object) -> np.ndarray:
    how: dict[str, object] = {"seed": SEED, "steps": 3, "sampler": "ddim", "guidance_scale": 3.0, **options}
    return np.asarray(fewstep.text2image(model, PROMPT, **how), dtype=int)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "steps"),
    # alpha's pipeline takes one step for a sign of DMD and asks the scheduler for what DPM-Solver++ has not
    [
        *((way, steps) for way in ("sigma", "lcm") for steps in (1, 4, 8)),
        *((way, steps) for way in ("alpha", "alpha at 1024") for steps in (4, 8)),
    ],
)
def test_pictures_are_those_of_diffusers(tmp_path: Path, way: str, steps: int) -> None:
    """From the same folder and noise: by DPM-Solver++ with guidance, as the published folders say, or as an LCM."""
    kind = PixArtSigmaPipeline if way == "sigma" else PixArtAlphaPipeline
    lcm = LCMScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02) if way == "lcm" else None
    folder = write(tmp_path / "pixart", kind, sizes=way == "alpha at 1024", scheduler=lcm)
    model = fewstep.load(folder, device="cpu")
    guidance = 1.0 if way == "lcm" else 4.5
    ours = np.asarray(fewstep.text2image(model, PROMPT, seed=SEED, steps=steps, guidance_scale=guidance), dtype=int)
    expected = by_diffusers(kind, folder, steps, guidance)
    assert ours.std() > 1
    assert np.abs(ours - expected).max() <= 1


def by_diffusers(kind: type[DiffusionPipeline], folder: Path, steps: int, guidance: float) -> np.ndarray:
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.transformer.config.use_additional_conditions:  # the pipeline knows it by the sample's size alone
        call = pipeline.transformer.forward

        def framed(x_t: torch.Tensor, **options: Any) -> Any:
            rows = len(x_t)
            height, width = (8.0 * side for side in x_t.shape[-2:])
            sizes = {
                "resolution": torch.tensor([[height, width]]).repeat(rows, 1),
                "aspect_ratio": torch.tensor([[height / width]]).repeat(rows, 1),
            }
            return call(x_t, **{**options, "added_cond_kwargs": sizes})

        pipeline.transformer.forward = framed
    made = pipeline(
        PROMPT,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=64,
        width=64,
        use_resolution_binning=False,
        clean_caption=False,
    )
    return np.asarray(made.images[0], dtype=int)


def test_an_autoencoder_may_shift(tmp_path: Path) -> None:
    model = fewstep.load(write(tmp_path / "pixart", shift=0.1), device="cpu")
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    raw = model.autoencoder.module.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(model.encode_images(pixels), (raw - 0.1) * 0.18215)
    torch.testing.assert_close(
        model.decode(model.encode_images(pixels)), model.autoencoder.module.decode(raw).sample.clamp(-1, 1)
    )


def test_it_does_what_others_do(folder: Path, tmp_path: Path) -> None:
    model = fewstep.load(folder, device="cpu")
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    assert fewstep.image2image(model, PROMPT, picture, seed=SEED, steps=3, strength=0.7).size == (64, 64)
    assert fewstep.text2image(model, [PROMPT, "a dog"], seed=SEED, steps=2, upscale=2.0)[1].size == (128, 128)
    save(model, tmp_path / "saved", base=folder)
    assert np.array_equal(made(fewstep.load(tmp_path / "saved", device="cpu")), made(model))
    assert PixArtAlphaPipeline.from_pretrained(tmp_path / "saved").transformer.config.num_layers == 2


@pytest.mark.parametrize("prefix", ["transformer.", "lora_unet_"])
def test_loras_find_its_layers(folder: Path, tmp_path: Path, prefix: str) -> None:
    plain = fewstep.load(folder, device="cpu")
    layers = adapters.random_layers(plain.network.module, 1)
    if prefix == "lora_unet_":
        path = adapters.write_kohya(tmp_path / "ink.safetensors", {"lora_unet": layers}, alpha=4.0)
    else:
        path = adapters.write_diffusers(tmp_path / "ink.safetensors", {"transformer": layers}, alpha=4.0)
    model = fewstep.load(folder, device="cpu", loras=[path])
    assert np.abs(made(model) - made(plain)).max() > 5
    assert np.array_equal(made(model, loras={"ink": 0.0}), made(plain))


def test_what_it_has_not_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 32)}, tmp_path / "toy.safetensors")
    with pytest.raises(InvalidModel, match="no room for words of one's own"):
        fewstep.load(folder, device="cpu", embeddings=[tmp_path / "toy.safetensors"])
    with pytest.raises(InvalidModel, match="steer a U-Net, and pixart has none"):
        fewstep.load(folder, device="cpu", controlnets=[tmp_path / "net"])


@pytest.mark.slow
@pytest.mark.parametrize("verb", verbs.QUICK)
def test_it_is_used_as_any_other(folder: Path, tmp_path: Path, verb: str) -> None:
    verbs.QUICK[verb](folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", verbs.SLOW)
def test_it_is_trained_and_measured_as_any_other(folder: Path, tmp_path: Path, verb: str) -> None:
    verbs.SLOW[verb](folder, tmp_path)


def test_over_a_picture_it_is_the_loop_over_diffusers_scheduler(folder: Path) -> None:
    """By DPM-Solver++ from the picture's latents, noised to the first of the times that are left."""
    model, guidance, steps, strength = fewstep.load(folder, device="cpu"), 4.5, 10, 0.6
    ours = fewstep.image2image(
        model, PROMPT, verbs.picture(), seed=SEED, steps=steps, strength=strength, guidance_scale=guidance
    )
    pipeline = PixArtAlphaPipeline.from_pretrained(folder)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps)
    left = scheduler.timesteps[steps - int(steps * strength) :]
    scheduler.set_begin_index(steps - int(steps * strength))
    z = model.encode_images(to_pixels(verbs.picture(), 64, 64))
    x_t = scheduler.add_noise(z, PictureNoise((SEED,)).draw((4, 8, 8)), left[:1])
    states, mask, nothing, no_mask = pipeline.encode_prompt(PROMPT, clean_caption=False)
    with torch.no_grad():
        for t in left:
            both = pipeline.transformer(
                x_t.repeat(2, 1, 1, 1),
                timestep=t.expand(2),
                encoder_hidden_states=torch.cat([nothing, states]),
                encoder_attention_mask=torch.cat([no_mask, mask]),
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            ).sample[:, :4]
            away, toward = both.chunk(2)
            x_t = scheduler.step(away + guidance * (toward - away), t, x_t).prev_sample
        expected = pipeline.image_processor.postprocess(pipeline.vae.decode(x_t / 0.18215).sample, output_type="pil")[0]
    assert np.abs(verbs.as_array(ours) - verbs.as_array(expected)).max() <= 1


def test_peft_knows_a_lora_of_it_as_we_do(folder: Path, tmp_path: Path) -> None:
    """diffusers has no loader for PixArt's LoRAs; people use PEFT's."""
    model = fewstep.load(folder, device="cpu")
    theirs = get_peft_model(
        PixArtTransformer2DModel.from_pretrained(folder / "transformer"),
        LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False),
    )
    theirs.save_pretrained(tmp_path / "lora")
    adapted = fewstep.load(folder, device="cpu", loras=[tmp_path / "lora" / "adapter_model.safetensors"])
    cond = adapted.conditioned(adapted.encode_prompts([PROMPT]), 64, 64)
    x_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    with torch.no_grad():
        ours = adapted.denoise(x_t, t, cond)
        model = dataclasses.replace(model, network=model.network.holding(theirs.merge_and_unload()))
        torch.testing.assert_close(ours, model.denoise(x_t, t, model.encode_prompts([PROMPT])), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, fewstep.load(folder, device="cpu").denoise(x_t, t, cond), atol=1e-2)
