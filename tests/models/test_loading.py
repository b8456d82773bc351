"""Loading: the same weights as diffusers, from a name, a folder or the hub; and everything else refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    LatentConsistencyModelPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

import fewstep
from fewstep.errors import FewstepError, InvalidModel, InvalidRequest, ModelNotFound
from fewstep.models import folder
from fewstep.models.locating import read_json
from fewstep.models.model import Model
from fewstep.models.saving import save
from miniature import write_miniature, write_miniature_sdxl


@pytest.fixture
def broken(miniature: Path, tmp_path: Path) -> Path:
    """A copy of the miniature, to be damaged."""
    return Path(shutil.copytree(miniature, tmp_path / "broken"))


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_parts_are_those_that_diffusers_loads(family: Path) -> None:
    model = fewstep.load(family, device="cpu")
    theirs = LatentConsistencyModelPipeline.from_pretrained(family, dtype=torch.float32)
    assert same_weights(model.network.module, theirs.unet)
    assert same_weights(model.autoencoder.module, theirs.vae)
    assert same_weights(model.text.encoders["text_encoder"], theirs.text_encoder)
    assert model.profile.kind == "lcm"
    assert model.profile.guidance.embedded
    assert not model.network.module.training


def test_the_teacher_takes_what_it_lacks_from_the_student(family: Path) -> None:
    model, teacher = fewstep.load(family, device="cpu"), fewstep.load(family / "teacher", device="cpu")
    theirs = StableDiffusionPipeline.from_pretrained(
        family / "teacher",
        vae=model.autoencoder.module,
        text_encoder=model.text.encoders["text_encoder"],
        tokenizer=model.text.tokenizers["tokenizer"],
        dtype=torch.float32,
    )
    assert same_weights(teacher.network.module, theirs.unet)
    assert same_weights(teacher.autoencoder.module, model.autoencoder.module)
    assert (teacher.profile.kind, teacher.profile.guidance.embedded) == ("diffusion", False)
    assert teacher.origin.hash != model.origin.hash


def test_the_built_in_names(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = {"starter": miniature, "starter-teacher": miniature / "teacher"}
    monkeypatch.setattr(folder, "BUILT_IN", built_in)
    assert [fewstep.load(name, device="cpu").profile.kind for name in built_in] == ["lcm", "diffusion"]
    assert fewstep.load(device="cpu").origin.reference == "starter"
    assert fewstep.load(miniature, device="cpu").origin.reference is None


def test_an_installation_without_the_starter_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BUILT_IN", {"starter": tmp_path})
    with pytest.raises(ModelNotFound, match="weights of 'starter' are not in this installation"):
        fewstep.load("starter")


def test_a_folder_without_a_card_gets_one_from_its_scheduler(broken: Path) -> None:
    (broken / "fewstep.json").unlink()
    model = fewstep.load(broken, device="cpu")
    assert (model.name, model.profile.kind, model.profile.steps, model.profile.guidance.scale) == (
        "broken",
        "lcm",
        4,
        8.5,
    )
    (broken / "teacher" / "fewstep.json").unlink()
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.move(broken / part, broken / "teacher" / part)
    model = fewstep.load(broken / "teacher", device="cpu")
    assert (model.name, model.profile.kind, model.profile.steps, model.profile.guidance.scale) == (
        "teacher",
        "diffusion",
        25,
        7.5,
    )


def test_a_consistency_model_that_reads_no_w_is_not_guided_by_default(broken: Path) -> None:
    (broken / "fewstep.json").unlink()
    shutil.rmtree(broken / "unet")
    shutil.move(broken / "teacher" / "unet", broken / "unet")
    assert fewstep.load(broken, device="cpu").profile.guidance.scale == 1.0


def test_half_precision_rounds_the_networks_and_nothing_else(miniature: Path) -> None:
    model = fewstep.load(miniature, device="cpu", dtype="bfloat16")
    assert model.dtype == model.autoencoder.module.dtype == model.text.encoders["text_encoder"].dtype == torch.bfloat16
    assert model.profile.schedule.alphas_cumprod.dtype == torch.float64


def test_saving_in_another_precision_leaves_the_model_as_it_is(miniature: Path, tmp_path: Path) -> None:
    model = fewstep.load(miniature, device="cpu", dtype="float32")
    own = {"network": model.network.module, "vae": model.autoencoder.module, **model.text.encoders}
    before = {name: {key: value.clone() for key, value in part.state_dict().items()} for name, part in own.items()}
    save(model, tmp_path / "saved", base=miniature, dtype="float16")
    for name, part in own.items():
        torch.testing.assert_close(part.state_dict(), before[name], rtol=0, atol=0)
    again = fewstep.load(tmp_path / "saved", device="cpu", dtype="float32").network.module.state_dict()
    for key, value in before["network"].items():
        torch.testing.assert_close(again[key], value.half().float(), rtol=0, atol=0)


def test_an_autoencoder_that_overflows_in_float16_stays_float32(tmp_path: Path) -> None:
    folder = write_miniature(tmp_path, autoencoder="kl")
    model = fewstep.load(folder, device="cpu", dtype="float16")
    assert isinstance(model.autoencoder.module, AutoencoderKL)
    assert model.autoencoder.module.config.force_upcast
    assert (model.dtype, model.autoencoder.module.dtype) == (torch.float16, torch.float32)


def test_loading_leaves_the_libraries_as_talkative_as_they_were(miniature: Path) -> None:
    from diffusers.utils import logging

    logging.set_verbosity_info()
    try:
        fewstep.load(miniature, device="cpu")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


def test_another_autoencoder(miniature: Path, tmp_path: Path) -> None:
    other = write_miniature(tmp_path / "other", autoencoder="kl")
    for source in (other, other / "vae"):
        model = fewstep.load(miniature, device="cpu", vae=source)
        assert isinstance(model.autoencoder.module, AutoencoderKL)
        assert model.origin.hash != fewstep.load(miniature, device="cpu").origin.hash
        assert fewstep.text2image(model, "a cat", seed=0).size == (128, 128)
    wrong = write_miniature_sdxl(tmp_path / "sdxl")
    for source, words in {
        wrong: "has latents of 4 channels and this model samples 16",
        tmp_path: "holds no autoencoder",
        "fast": "no fast decoder for",
        "no-such": "no autoencoder 'no-such'",
    }.items():
        with pytest.raises(FewstepError, match=words):
            fewstep.load(miniature, device="cpu", vae=source)


@pytest.mark.parametrize("name", ["", "no-such-model", "a/b/c", "./nowhere/x", "owner/name/extra", "has space/x"])
def test_an_unknown_name_is_not_found(name: str) -> None:
    with pytest.raises(FewstepError):
        fewstep.load(name)


def test_a_hub_id_out_of_reach_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound, match=r"no model 'someone/something': .*hub cannot be reached"):
        fewstep.load("someone/something")


def test_a_hub_id_is_fetched_without_pickles(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}

    def snapshot_download(repo_id: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked[repo_id] = allow_patterns
        return str(miniature)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = fewstep.load("someone/something", device="cpu")
    assert model.origin.reference == "someone/something"
    harmless = (
        "json",
        "safetensors",
        "txt",
        "tokenizer/*.model",
        "tokenizer_3/*.model",
    )  # SentencePiece's vocabularies
    assert not [pattern for pattern in asked["someone/something"] if not pattern.endswith(harmless)]
    assert {"tokenizer/*.model", "tokenizer/*.txt"} <= set(asked["someone/something"])  # of one family, and of another


def test_a_family_that_is_not_there_is_named_with_what_it_would_need(tmp_path: Path) -> None:
    (tmp_path / "flux" / "transformer").mkdir(parents=True)
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    config = tmp_path / "flux" / "transformer" / "config.json"
    config.write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(
        InvalidModel, match=r"flux is FLUX.1, a family that fewstep does not have: its latents are pack"
    ):
        fewstep.load(tmp_path / "flux", device="cpu")
    config.write_text('{"_class_name": "NewTransformer2DModel"}')
    with pytest.raises(
        InvalidModel, match=r"a NewTransformer2DModel, so .* samples those of PixArt and Stable Diffusion 3"
    ):
        fewstep.load(tmp_path / "flux", device="cpu")


def remove(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def pickle_only(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def pure_noise_with_epsilon(folder: Path) -> None:
    (folder / "fewstep.json").unlink()
    edit("scheduler/scheduler_config.json", prediction_type="epsilon", rescale_betas_zero_snr=True)(folder)


def cut(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (remove("model_index.json"), "no model_index.json"),
        (remove("vae"), "no vae/ folder"),
        (remove("unet/config.json"), "config.json cannot be read as JSON"),
        (remove("unet/diffusion_pytorch_model.safetensors"), "has no weights"),
        (pickle_only, "only as a pickle"),
        (cut, "unet cannot be loaded"),
        (write("unet/config.json", b"{"), "cannot be read as JSON"),
        (write("unet/config.json", b"[]"), "must hold a JSON object"),
        (
            edit("unet/config.json", _class_name="FluxTransformer2DModel"),
            "is FLUX.1, a family that fewstep does not have",
        ),
        (edit("unet/config.json", block_out_channels=[32, 32]), "unet cannot be loaded"),
        (edit("vae/config.json", _class_name="Ours"), "knows AutoencoderTiny, AutoencoderKL"),
        (edit("text_encoder/config.json", architectures=["T5EncoderModel"]), "holds a T5EncoderModel"),
        (edit("scheduler/scheduler_config.json", beta_schedule="odd"), "betas cannot be read"),
        (pure_noise_with_epsilon, "epsilon prediction cannot recover x_0"),
        (write("tokenizer/tokenizer.json", b"{}"), "tokenizer cannot be loaded"),
        (remove("tokenizer/tokenizer.json"), "tokenizer has no vocabulary"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(broken: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(broken)
    with pytest.raises(InvalidModel, match=complaint) as caught:
        fewstep.load(broken, device="cpu")
    assert "\n" not in str(caught.value)


def test_parts_come_from_elsewhere_only_where_the_card_says_so(broken: Path) -> None:
    (broken / "teacher" / "fewstep.json").unlink()
    with pytest.raises(InvalidModel, match="no vae/ folder"):
        fewstep.load(broken / "teacher", device="cpu")


@pytest.mark.parametrize(("name", "complaint"), [("model.ckpt", "is a pickle"), ("model.txt", "is no model")])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / name).write_bytes(b"0")
    with pytest.raises(InvalidModel, match=complaint):
        fewstep.load(tmp_path / name)


def test_an_inpainting_folder_is_called_by_its_name(broken: Path) -> None:
    config = read_json(broken / "unet" / "config.json")
    UNet2DConditionModel.from_config(config, in_channels=33).save_pretrained(broken / "unet")
    with pytest.raises(InvalidModel, match="is an inpainting model; fewstep works with ordinary"):
        fewstep.load(broken, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cpu:x", "meta"])
def test_an_unknown_device_is_refused(miniature: Path, device: str) -> None:
    with pytest.raises(InvalidRequest, match=r"there is no device .* it has cpu"):
        fewstep.load(miniature, device=device)


@pytest.mark.parametrize("dtype", ["float8", "int8", "", torch.int64])
def test_an_unknown_dtype_is_refused(miniature: Path, dtype: str | torch.dtype) -> None:
    with pytest.raises(InvalidRequest, match="choose one of float32, float16, bfloat16"):
        fewstep.load(miniature, device="cpu", dtype=dtype)


def test_the_hash_is_of_the_weights(student: Model, broken: Path) -> None:
    assert fewstep.load(broken, device="cpu").origin.hash == student.origin.hash
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fewstep.load(broken, device="cpu").origin.hash != student.origin.hash
    assert len(student.origin.hash) == 12
