"""A new family is one file: that of docs/extending.md, in its folder, paints as diffusers does and takes LoRAs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from PIL import Image
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

import adapters
import fewstep
from documents import blocks
from fewstep.cli.main import main
from fewstep.core.noise import PictureNoise
from fewstep.errors import InvalidModel
from fewstep.models import families
from fewstep.models.adapters.lora import names
from fewstep.models.saving import save

DOCUMENT = Path(__file__).parents[3] / "docs" / "extending.md"
PROMPT, SEED = "a cat", 3


@pytest.fixture(autouse=True)
def pixart_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's file, in the folder of families."""
    (text,) = (block.text for block in blocks(DOCUMENT) if block.file == "pixart_like.py")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pixart_like.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path / "own")])
    forget()
    yield
    sys.modules.pop("fewstep.models.families.pixart_like", None)
    forget()


def forget() -> None:
    for cached in (families._modules, families.families, families.file_formats, names._homes):
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a few thousand random weights, as diffusers writes it."""
    home = tmp_path / "pixart"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=32,
            use_additional_conditions=False,
        )
        encoder = T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
        autoencoder = AutoencoderKL(
            block_out_channels=(8, 8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            shift_factor=0.1,
        )
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    tokenizer = T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0, model_max_length=120
    )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    PixArtAlphaPipeline(tokenizer, encoder, autoencoder, transformer, scheduler).save_pretrained(home)
    return home


def painted(model: object, **options: object) -> np.ndarray:
    how = {"seed": SEED, "steps": 3, "sampler": "ddim", "guidance_scale": 3.0, **options}
    return np.asarray(fewstep.text2image(model, PROMPT, **how), dtype=int)  # type: ignore[call-overload]


def test_pictures_are_those_of_diffusers(folder: Path) -> None:
    pipeline = PixArtAlphaPipeline.from_pretrained(folder)
    pipeline.vae.config["shift_factor"] = None  # which this pipeline does not know
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPT,
        latents=PictureNoise((SEED,)).draw((4, 8, 8)),
        num_inference_steps=3,
        guidance_scale=3.0,
        height=64,
        width=64,
        use_resolution_binning=False,
        clean_caption=False,
    )
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "shift_factor": None}))
    ours = painted(fewstep.load(folder, device="cpu"))
    assert ours.std() > 1
    assert np.abs(ours - np.asarray(expected.images[0], dtype=int)).max() <= 1


def test_an_autoencoder_may_shift(folder: Path) -> None:
    model = fewstep.load(folder, device="cpu")
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
    assert np.array_equal(painted(fewstep.load(tmp_path / "saved", device="cpu")), painted(model))
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
    assert np.abs(painted(model) - painted(plain)).max() > 5
    assert np.array_equal(painted(model, loras={"ink": 0.0}), painted(plain))


def test_what_it_has_not_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 32)}, tmp_path / "toy.safetensors")
    with pytest.raises(InvalidModel, match="no room for words of one's own"):
        fewstep.load(folder, device="cpu", embeddings=[tmp_path / "toy.safetensors"])
    with pytest.raises(InvalidModel, match="steer a U-Net, and pixart has none"):
        fewstep.load(folder, device="cpu", controlnets=[tmp_path / "net"])


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--lora"], ["--guidance", "3"]])
def test_students_of_it_are_distilled(folder: Path, tmp_path: Path, how: list[str]) -> None:
    """As a LoRA, and whole without w, for which its network has no place; both paint in two steps."""
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        picture = Image.radial_gradient("L").resize((64, 64)).rotate(90 * number).convert("RGB")
        picture.save(tmp_path / "pictures" / f"cat {number}.png")
    run = tmp_path / "run"
    data = ["--teacher", folder, "--data", tmp_path / "pictures", "--pictures", 8, "--batch-size", 4, "-o", run]
    assert main(["distill", *map(str, data), *how]) == 0
    if how == ["--lora"]:
        student = fewstep.load(folder, device="cpu", loras=[run / "pytorch_lora_weights.safetensors"])
    else:
        student = fewstep.load(run / "model", device="cpu")
    assert student.profile.kind == "lcm"
    assert fewstep.text2image(student, PROMPT, seed=SEED, steps=2).size == (64, 64)
