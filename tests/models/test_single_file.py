"""One file with a whole checkpoint: the same model as the folder that it was written from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import adapters
import fewstep
from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models import single_file
from fewstep.models.families import stability
from fewstep.models.families.checkpoint import Checkpoint
from fewstep.models.families.sd import SD1, SD2
from fewstep.models.families.sdxl import SDXL, SSD_1B
from fewstep.models.families.unet import UNetFamily
from fewstep.models.families.unet_names import stability_names
from fewstep.models.model import Model
from fewstep.models.stated import Stated
from miniature import write_miniature_sd1, write_miniature_sdxl
from original import write_original

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sd1(tmp_path_factory.mktemp("sd1") / "sd1")


def picture(model: Model) -> np.ndarray:
    return np.asarray(fewstep.text2image(model, "a blue cat", seed=1, steps=2, guidance_scale=4.0), dtype=int)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_miniature_sd1, write_miniature_sdxl])
@pytest.mark.parametrize("w_width", [None, 256])
def test_it_is_the_model_of_the_folder(write: Write, w_width: int | None, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", time_cond_proj_dim=w_width)
    path = write_original(folder, tmp_path / "model.safetensors")
    ours, theirs = fewstep.load(path, device="cpu", config=folder), fewstep.load(folder, device="cpu")
    pairs = [
        (mine, his)
        for mine_all, his_all in zip(ours.stages, theirs.stages, strict=True)
        for mine, his in zip(mine_all, his_all, strict=True)
    ]
    for mine, his in pairs:
        expected, found = his.state_dict(), mine.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    embedded = ours.profile.guidance.embedded
    assert (ours.name, ours.profile.kind, embedded) == ("model", theirs.profile.kind, w_width is not None)
    assert (ours.origin.reference, ours.origin.folder) == (None, None)
    for pair in pairs:
        for part in pair:
            for weight in part.parameters():
                weight.data = weight.data.clone()  # some kernels round by where in a mapped file a weight lies
    assert np.array_equal(picture(ours), picture(theirs))


def test_half_precision_files_and_adapters(sd1: Path, tmp_path: Path) -> None:
    path = write_original(sd1, tmp_path / "half.safetensors", dtype=torch.float16)
    model = fewstep.load(path, device="cpu", config=sd1)
    assert model.dtype == torch.float32
    layers = {"lora_unet": adapters.random_layers(model.network.module, 1)}
    lora = adapters.write_kohya(tmp_path / "ink.safetensors", layers, alpha=2.0)
    plain = picture(model)
    inked = picture(fewstep.load(path, device="cpu", config=sd1, loras=[lora]))
    assert np.abs(inked - plain).max() > 10


def test_a_file_without_an_autoencoder_takes_another(sd1: Path, tmp_path: Path) -> None:
    path = write_original(sd1, tmp_path / "pruned.safetensors", vae=False)
    with pytest.raises(InvalidModel, match="has no autoencoder in it: give one with --vae"):
        fewstep.load(path, device="cpu", config=sd1)
    model = fewstep.load(path, device="cpu", config=sd1, vae=sd1)
    expected = picture(fewstep.load(sd1, device="cpu"))
    assert np.array_equal(picture(model), expected)
    configs = shutil.copytree(sd1, tmp_path / "configs", ignore=shutil.ignore_patterns("vae"))
    assert np.array_equal(picture(fewstep.load(path, device="cpu", config=configs, vae=sd1)), expected)
    alone = sd1 / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(InvalidModel, match="does not say its shape, and neither does the folder of configs"):
        fewstep.load(path, device="cpu", config=configs, vae=alone)


@pytest.mark.slow
@pytest.mark.parametrize("names", ["first_stage_model.", "", "diffusers"])
def test_an_autoencoder_in_a_file_of_its_own(sd1: Path, tmp_path: Path, names: str) -> None:
    """As vae-ft-mse-840000 is published: the same pictures as with the folder that it was written from."""
    other = write_miniature_sd1(tmp_path / "other")
    weights = other / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: value * 1.1 for key, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    whole = load_file(write_original(other, tmp_path / "whole.safetensors"))
    stem = "first_stage_model."
    vae = {names + key.removeprefix(stem): value for key, value in whole.items() if key.startswith(stem)}
    if names == "diffusers":
        vae = load_file(weights)
    save_file(vae, tmp_path / "vae.safetensors")
    expected = picture(fewstep.load(sd1, device="cpu", vae=other))
    assert np.abs(expected - picture(fewstep.load(sd1, device="cpu"))).max() > 10
    path = write_original(sd1, tmp_path / "model.safetensors", vae=False)
    for model in (sd1, path):
        config = sd1 if model == path else None
        ours = fewstep.load(model, device="cpu", vae=tmp_path / "vae.safetensors", config=config)
        assert np.array_equal(picture(ours), expected)
    save_file({"something": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(InvalidModel, match="is no autoencoder that fewstep knows"):
        fewstep.load(sd1, device="cpu", vae=tmp_path / "wrong.safetensors")


def state_of(family: UNetFamily) -> dict[str, torch.Tensor]:
    """The names of a whole checkpoint's tensors, with as much of their shapes as tells what it is."""
    unet = family.blank("unet")
    weights = dict(unet.named_parameters())
    layers = {name.rsplit(".", 1)[0] for name in weights}
    tensors = {
        f"model.diffusion_model.{spelled}.weight": torch.zeros(1, *weights[f"{layer}.weight"].shape[1:2])
        for spelled, layer in stability_names(layers, unet.config).items()
    }
    return tensors | {"cond_stage_model.x": torch.zeros(1)}


@pytest.mark.parametrize("family", [SD1, SD2, SDXL, SSD_1B], ids=lambda family: family.name)
def test_the_family_is_read_from_the_shapes(family: UNetFamily, tmp_path: Path) -> None:
    tensors = state_of(family)
    save_file(tensors, tmp_path / "x.safetensors")
    header = single_file.read_checkpoint(tmp_path / "x.safetensors")
    assert header.family is family
    assert (header.embeds_w, header.has_autoencoder) == (False, False)


def test_the_published_configs_are_written(tmp_path: Path) -> None:
    """With them diffusers builds networks of the published shapes."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    header = Checkpoint(
        path=tmp_path,
        family=SDXL,
        in_words="SDXL",
        embeds_w=True,
        has_autoencoder=True,
        few_step=Stated(True, "shapes"),
        prediction=Stated("epsilon", "shapes"),
        zero_snr=Stated(False, "shapes"),
    )
    stability._write_configs(header, SDXL, 256, tmp_path)
    config = UNet2DConditionModel.load_config(tmp_path / "unet")
    assert (config["cross_attention_dim"], config["time_cond_proj_dim"]) == (2048, 256)
    assert AutoencoderKL.load_config(tmp_path / "vae")["scaling_factor"] == 0.13025
    assert CLIPTextConfig.from_pretrained(tmp_path / "text_encoder_2").hidden_size == 1280


def test_files_that_are_something_else(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_file(write_original(sd1, tmp_path / "whole.safetensors"))
    path = tmp_path / "x.safetensors"

    def refused(tensors: dict[str, torch.Tensor], words: str, **options: object) -> None:
        save_file(tensors, path)
        with pytest.raises((InvalidModel, ModelNotFound), match=words):
            fewstep.load(path, device="cpu", **options)  # type: ignore[arg-type]

    refused({"lora_unet_x.lora_down.weight": torch.zeros(1)}, "it looks like a LoRA: give it with --lora")
    refused({"x": torch.zeros(1)}, "is no whole checkpoint of Stable Diffusion")
    refused({k: x for k, x in whole.items() if "cond_stage" not in k}, "has no text encoder in it")
    entrance = "model.diffusion_model.input_blocks.0.0.weight"
    refused(whole | {entrance: torch.zeros(32, 9, 3, 3)}, "is an inpainting model")
    states = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    refused({k: x for k, x in whole.items() if "attn2" not in k} | {states: torch.zeros(4, 1280)}, "SDXL refiner")
    refused(whole, "of no family that fewstep knows")
    refused({k: x for k, x in whole.items() if "middle" not in k}, "cannot be loaded: .* Missing key", config=sd1)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidModel, match="cannot be read as safetensors"):
        fewstep.load(path)
    with pytest.raises(InvalidModel, match="no single file that would need one"):
        fewstep.load(sd1, config=sd1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound, match="needs CLIP's vocabulary"):
        stability._vocabularies(path, SDXL)
