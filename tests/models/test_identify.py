"""What files and folders are, from all that they state: the right thing is taken, and the wrong one refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import adapters
import fewstep
from fewstep.core.noise import PictureNoise
from fewstep.errors import FewstepWarning, InvalidModel, InvalidRequest, ModelNotFound
from fewstep.models.adapters.embeddings import read_embedding
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.source import find_lora
from fewstep.models.families.layout import Layout
from fewstep.models.families.sdxl import SDXL
from fewstep.models.families.unets import with_layers
from fewstep.models.identify import Thing, identify, refusal
from fewstep.models.model import Model
from fewstep.models.saving import save
from fewstep.models.single_file import read_checkpoint
from fewstep.models.stated import prediction
from fewstep.models.variants import chosen_variant
from miniature import HIDDEN, HIDDEN_2, write_miniature_sd1, write_miniature_sdxl
from original import write_original

PROMPT = "a blue cat"


def pixels(picture: object) -> np.ndarray:
    return np.asarray(picture).astype(int)


def painted(model: Model, prompt: str = PROMPT, **options: object) -> np.ndarray:
    settings = {"seed": 3, "steps": 3, "sampler": "ddim", "guidance_scale": 3.0} | options
    return pixels(fewstep.text2image(model, prompt, **settings))  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sd1(tmp_path_factory.mktemp("sd1") / "sd1")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature_sdxl(tmp_path_factory.mktemp("sdxl") / "sdxl")


# What makes a few-step model


def write_lora(folder: Path, name: str = "pytorch_lora_weights.safetensors", **metadata: str) -> Path:
    """A LoRA for one layer of the miniature's teacher, with that metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.randn(3, 32), f"{layer}.lora_B.weight": torch.randn(32, 3)}
    save_file(tensors, folder / name, metadata)
    return folder / name


@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.parametrize("place", ["lcm-lora-sdv1-5", "models--latent-consistency--lcm-lora-sdv1-5/snapshots/0f3a"])
def test_a_published_lcm_lora_is_known_by_its_folder(
    as_folder: bool, place: str, miniature: Path, tmp_path: Path
) -> None:
    file = write_lora(tmp_path / place)
    with pytest.warns(FewstepWarning, match="is taken for an LCM-LoRA .* by its name alone; --kind diffusion"):
        model = fewstep.load(miniature / "teacher", device="cpu", loras=[file.parent if as_folder else file])
    assert (model.profile.kind, model.profile.steps, model.profile.guidance.scale) == ("lcm", 4, 1.0)


@pytest.mark.parametrize(
    ("metadata", "few_step", "by"),
    [
        ({}, True, "name"),
        ({"modelspec.title": "Film grain"}, False, "metadata"),
        ({"ss_output_name": "film", "modelspec.title": "Film LCM"}, True, "metadata"),
        ({"ss_dataset_dirs": "{}"}, False, "metadata"),
        ({"ss_output_name": "film", "fewstep": '{"kind": "lcm"}'}, True, "record"),
        ({"modelspec.title": "LCM", "fewstep": '{"kind": "diffusion"}'}, False, "record"),
        ({"fewstep": "null"}, True, "name"),
    ],
)
def test_what_an_adapter_says_of_itself_wins_over_its_name(
    metadata: dict[str, str], few_step: bool, by: str, miniature: Path, tmp_path: Path
) -> None:
    path = write_lora(tmp_path / "film-lcm", **metadata)
    said = LoraFile.read(path).few_step
    assert (said.value, said.by) == (few_step, by)
    if by != "name":  # nothing to announce
        model = fewstep.load(miniature / "teacher", device="cpu", loras=[path])
        assert (model.profile.kind, model.profile.steps) == (("lcm", 4) if few_step else ("diffusion", 25))


def test_options_overrule_an_adapters_name(miniature: Path, student: Model, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "film-lcm")
    model = fewstep.load(miniature / "teacher", device="cpu", loras=[path], kind="diffusion")
    assert (model.profile.kind, model.profile.steps) == ("diffusion", 25)
    model = fewstep.load(miniature, device="cpu", loras=[path], kind="lcm")  # a style on a consistency model
    assert (model.profile.kind, model.profile.guidance.scale) == ("lcm", student.profile.guidance.scale)
    record = write_lora(tmp_path / "fast", fewstep='{"kind": "lcm", "steps": 2}')
    model = fewstep.load(miniature / "teacher", device="cpu", loras=[record], kind="diffusion")
    assert (model.profile.kind, model.profile.steps) == (
        "lcm",
        2,
    )  # the base is a diffusion model, and the adapter says more


# How a checkpoint is sampled


def write_checkpoint(sdxl: Path, path: Path, extra: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    whole = load_file(write_original(sdxl, path))
    save_file(whole | extra, path, metadata)
    return path


MARKERS = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}


@pytest.fixture(scope="module")
def noob(sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(sdxl, tmp_path_factory.mktemp("noob") / "noob.safetensors", MARKERS, {})


@pytest.mark.parametrize(
    ("name", "extra", "metadata", "beside", "expected"),
    [
        ("x", {}, {}, None, ("epsilon", "shapes", False, "shapes")),
        ("x", MARKERS, {}, None, ("v_prediction", "marker", True, "marker")),
        ("x", {}, {"modelspec.prediction_type": "v"}, None, ("v_prediction", "metadata", False, "shapes")),
        ("x", MARKERS, {"modelspec.prediction_type": "epsilon"}, None, ("epsilon", "metadata", True, "marker")),
        ("x", MARKERS, {"fewstep": '{"prediction_type": "sample", "zero_snr": false}'}, None,
         ("sample", "record", False, "record")),
        ("x-vPred-ZTSNR", {}, {}, None, ("v_prediction", "name", True, "name")),
        ("x_v-pred", {}, {"modelspec.prediction_type": "epsilon"}, None, ("epsilon", "metadata", False, "shapes")),
        ("vpredator", {}, {}, None, ("epsilon", "shapes", False, "shapes")),
        ("x", {}, {"modelspec.prediction_type": "epsilon"}, "model: {params: {parameterization: v}}",
         ("v_prediction", "config", False, "shapes")),
        ("x", MARKERS, {}, "other: 1", ("v_prediction", "marker", True, "marker")),
    ],
)  # fmt: skip
def test_what_a_checkpoint_states(
    name: str,
    extra: dict[str, Tensor],
    metadata: dict[str, str],
    beside: str | None,
    expected: tuple[object, ...],
    noob: Path,
    tmp_path: Path,
) -> None:
    plain = {key: value for key, value in load_file(noob).items() if key not in MARKERS and "attn" in key}
    entrance = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1, 4, 3, 3)}
    path = tmp_path / f"{name}.safetensors"
    save_file(plain | entrance | extra, path, metadata)
    if beside is not None:
        path.with_suffix(".yaml").write_text(beside)
    found = read_checkpoint(path)
    assert (found.prediction.value, found.prediction.by, found.zero_snr.value, found.zero_snr.by) == expected


def theirs(sdxl: Path, **schedule: object) -> np.ndarray:
    """diffusers' picture of the folder, with its scheduler's config changed."""
    config = json.loads((sdxl / "scheduler" / "scheduler_config.json").read_text())
    scheduler = DDIMScheduler.from_config(config | schedule)
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl, scheduler=scheduler, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = PictureNoise((3,)).draw((4, 16, 16))
    size = {"height": 128, "width": 128}
    return pixels(pipeline(PROMPT, latents=noise, num_inference_steps=3, guidance_scale=3.0, **size).images[0])


V = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


@pytest.mark.slow
def test_markers_give_v_prediction_on_zero_snr_betas_as_diffusers(noob: Path, sdxl: Path, tmp_path: Path) -> None:
    """Also where the configs are of a folder whose scheduler says epsilon: what a file says of itself is more."""
    model = fewstep.load(noob, device="cpu", config=sdxl)
    assert (model.profile.prediction.name, model.profile.zero_snr) == ("v_prediction", True)
    expected = theirs(sdxl, **V)
    assert abs(painted(model) - expected).max() <= 1
    assert abs(expected - theirs(sdxl)).max() > 5
    plain = fewstep.load(noob, device="cpu", config=sdxl, prediction_type="epsilon", zero_snr=False)
    assert abs(painted(plain) - theirs(sdxl)).max() <= 1
    save(model, tmp_path / "saved", base=None)
    again = fewstep.load(tmp_path / "saved", device="cpu")
    assert (again.profile.prediction.name, again.profile.zero_snr) == ("v_prediction", True)
    Path(tmp_path / "x-vpred.safetensors").symlink_to(write_original(sdxl, tmp_path / "plain.safetensors"))
    assert (
        fewstep.load(tmp_path / "x-vpred.safetensors", device="cpu", config=sdxl).profile.prediction.name == "epsilon"
    )


def test_the_end_of_the_schedule_is_an_option(sdxl: Path) -> None:
    model = fewstep.load(sdxl, device="cpu", prediction_type="v_prediction", zero_snr=True)
    assert model.profile.zero_snr
    assert abs(painted(model) - theirs(sdxl, **V)).max() <= 1
    again = fewstep.load(sdxl, device="cpu", prediction_type="v_prediction", zero_snr=False)
    assert abs(painted(again) - painted(model)).max() > 5
    with pytest.raises(InvalidModel, match="epsilon"):
        fewstep.load(sdxl, device="cpu", zero_snr=True)


def test_models_with_noise_levels_of_their_own_are_refused(tmp_path: Path) -> None:
    names = ("input_blocks.0.0.weight", "middle_block.1.attn2.to_k.weight")
    tensors = {f"model.diffusion_model.{name}": torch.zeros(1, 768, 1, 1) for name in names}
    save_file(tensors | {"cond_stage_model.x": torch.zeros(1), "edm_mean": torch.zeros(4)}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidModel, match="noise levels of its own"):
        fewstep.load(tmp_path / "x.safetensors")


# What was cut out of a U-Net

SSD_1B = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}


def narrow_sdxl(**changes: object) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**{
            "block_out_channels": (32, 64, 96),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "attention_head_dim": 8,
            **changes,
        })  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "family", "adapter"),
    [
        ({}, "SDXL", "lcm-lora-sdxl"),
        (SSD_1B, "SSD-1B", "lcm-lora-ssd-1b"),
        ({"transformer_layers_per_block": (1, 1, 2)}, "a pruned SDXL (17 transformer blocks, not 70)", None),
    ],
)
def test_lcm_lora_is_the_one_published_for_the_layers_that_are_there(
    changes: dict[str, object],
    family: str,
    adapter: str | None,
    teacher: Model,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:

    fetched: list[str] = []
    path = write_lora(tmp_path / "x")
    monkeypatch.setattr(
        "fewstep.models.adapters.lora.source._download", lambda repository, file: fetched.append(repository) or path
    )
    unet = narrow_sdxl(**changes)
    layout = Layout.of(f"{name}." for name, _ in unet.named_modules())
    known = with_layers(2048, layout)[0] or SDXL
    model = dataclasses.replace(teacher, family=known, network=known.network(unet))
    assert model.base == family
    if adapter is None:
        with pytest.raises(ModelNotFound, match=r"no published LCM-LoRA for .*, a pruned SDXL \(17 transformer blocks"):
            find_lora("lcm-lora", model)
    else:
        assert find_lora("lcm-lora", model).few_step.by == "record"
        assert fetched == [f"latent-consistency/{adapter}"]


def test_the_sdxl_adapters_layers_that_ssd_1b_lacks() -> None:
    """365 of 788, as the issue with the published one was."""
    whole, pruned = (adapters.random_layers(unet_on_cpu(each), 1) for each in ({}, SSD_1B))
    assert (len(whole), len(set(whole) - set(pruned))) == (788, 365)


def unet_on_cpu(changes: dict[str, object]) -> torch.nn.Module:
    return narrow_sdxl(**changes).to_empty(device="cpu")


def test_a_layout_is_the_same_in_every_spelling() -> None:
    spelled = ["input_blocks.4.1", "input_blocks.5.1", "middle_block.1", "output_blocks.0.1", "output_blocks.10.1"]
    diffusers = ["down_blocks.1.attentions.0", "down_blocks.1.attentions.1", "mid_block.attentions.0"]
    diffusers += ["up_blocks.0.attentions.0", "up_blocks.1.attentions.2"]
    layouts = {
        Layout.of(f"{place}.transformer_blocks.{n}.attn" for place in each for n in range(3))
        for each in (spelled, diffusers)
    }
    layouts.add(Layout.of(f"{place}.transformer_blocks.2.attn".replace(".", "_") + "_x" for place in diffusers))
    assert layouts == {Layout((3, 3), (3,), (3, 3))}
    assert with_layers(768, Layout((1,), (), ()))[1].startswith("a pruned SD 1.x (1 transformer blocks")


# Variants


@pytest.mark.slow
@pytest.mark.parametrize("shards", [False, True])
def test_a_variant_that_is_alone_is_taken_and_said(sd1: Path, tmp_path: Path, shards: bool) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(sd1)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size="100KB" if shards else "5GB")
    assert len(list((tmp_path / "half" / "unet").glob("*.fp16*.safetensors"))) > (2 if shards else 0)
    with pytest.warns(FewstepWarning, match="has its weights in the variant fp16, which is taken"):
        model = fewstep.load(tmp_path / "half", device="cpu")
    assert abs(painted(model) - painted(fewstep.load(sd1, device="cpu"))).max() <= 1
    asked = fewstep.load(tmp_path / "half", device="cpu", variant="fp16")  # asked for: nothing is said
    assert (asked.origin.hash, len(asked.origin.weight_files)) == (model.origin.hash, len(model.origin.weight_files))
    with pytest.raises(InvalidModel, match=r"no weights of the variant 'ema'; it has fp16"):
        fewstep.load(tmp_path / "half", device="cpu", variant="ema")


@pytest.mark.parametrize(
    ("names", "dtype", "wanted", "expected"),
    [
        (["", ".fp16"], torch.float16, None, None),
        (["", ".fp16"], torch.float32, "fp16", "fp16"),
        ([".fp16", ".bf16"], torch.bfloat16, None, "bf16"),
        ([".fp16", ".bf16"], torch.float16, None, "fp16"),
        ([".fp16", ".fp32"], torch.float32, None, "fp32"),
        ([".non_ema"], torch.float32, None, "non_ema"),
        ([".non_ema", ".fp16"], torch.float32, None, "fp16"),
        ([".fp16-00001-of-00002", ".fp16-00002-of-00002"], torch.float32, None, "fp16"),
        (["-00001-of-00002.fp16", "-00002-of-00002.fp16"], torch.float32, None, "fp16"),
    ],
)
def test_of_several_variants_the_one_that_fits(
    names: list[str], dtype: torch.dtype, wanted: str | None, expected: str | None, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / f"diffusion_pytorch_model{name}.safetensors").touch()
    assert chosen_variant(tmp_path, dtype, wanted) == expected


def test_several_variants_of_which_none_fits(tmp_path: Path) -> None:
    for name in ("ema", "non_ema"):
        (tmp_path / f"model.{name}.safetensors").touch()
    with pytest.raises(InvalidModel, match="of the variants ema, non_ema: choose one with --variant"):
        chosen_variant(tmp_path, torch.float32)


def test_a_hub_repository_of_one_variant(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the hub that copies what is asked for, as the hub's client filters it."""
    from huggingface_hub.utils import filter_repo_objects

    hub = tmp_path / "hub"
    StableDiffusionPipeline.from_pretrained(sd1).save_pretrained(hub, variant="fp16")
    (hub / "unet" / "diffusion_pytorch_model.fp16.bin").write_bytes(b"a pickle")

    def snapshot_download(repo_id: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        there = [path.relative_to(hub).as_posix() for path in hub.rglob("*") if path.is_file()]
        for name in filter_repo_objects(there, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(hub / name, tmp_path / "cache" / name)
        return str(tmp_path / "cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.warns(FewstepWarning, match="in the variant fp16, which is taken"):
        model = fewstep.load("someone/something", device="cpu")
    assert model.origin.reference == "someone/something"
    assert not list((tmp_path / "cache").rglob("*.bin"))


# Parts alone


@pytest.mark.slow
def test_a_unet_alone_over_a_base(sdxl: Path, tmp_path: Path) -> None:
    """As latent-consistency/lcm-sdxl is published: one folder, which reads w."""
    lcm = write_miniature_sdxl(tmp_path / "lcm", time_cond_proj_dim=256)
    shutil.copytree(lcm / "unet", tmp_path / "lcm-sdxl")
    whole = shutil.copytree(sdxl, tmp_path / "whole", ignore=shutil.ignore_patterns("unet", "scheduler"))
    for part in ("unet", "scheduler"):
        shutil.copytree(lcm / part, whole / part)
    with pytest.raises(InvalidModel, match=r"lcm-sdxl is no model's folder: it is a U-Net alone .*give it with --unet"):
        fewstep.load(tmp_path / "lcm-sdxl")
    expected = fewstep.load(whole, device="cpu")
    weights = tmp_path / "lcm-sdxl" / "diffusion_pytorch_model.safetensors"
    alone = tmp_path / "alone.safetensors"
    shutil.copy(weights, alone)
    original = write_original(lcm, tmp_path / "original.safetensors")
    for unet in (tmp_path / "lcm-sdxl", weights, alone, original):
        model = fewstep.load(sdxl, device="cpu", unet=unet)
        assert (model.profile.kind, model.profile.steps, model.profile.guidance.scale) == ("lcm", 4, 8.5)
        assert model.profile.guidance.embedded
        assert model.name == unet.stem
        same = {"sampler": None, "guidance_scale": None}
        assert abs(painted(model, **same) - painted(expected, **same)).max() <= 1


def test_a_unet_of_another_family_is_refused(sd1: Path, sdxl: Path) -> None:
    with pytest.raises(
        InvalidModel, match=r"the U-Net .* was made for a base with text states of 32 and the other parts"
    ):
        fewstep.load(sdxl, device="cpu", unet=sd1 / "unet")


@pytest.fixture(scope="module")
def controlnet(sd1: Path) -> ControlNetModel:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        net = ControlNetModel.from_unet(
            UNet2DConditionModel.from_pretrained(sd1 / "unet"), conditioning_embedding_out_channels=(8, 16, 24, 32)
        )
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def with_control(sd1: Path, source: Path) -> np.ndarray:
    model = fewstep.load(sd1, device="cpu", controlnets=[source])
    edges = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    return painted(model, controls={model.steered_by[0]: (edges, 0.8)})


@pytest.mark.slow
def test_a_controlnet_as_one_file_steers_as_in_diffusers(
    sd1: Path, controlnet: ControlNetModel, tmp_path: Path
) -> None:
    controlnet.save_pretrained(tmp_path / "net")
    alone = tmp_path / "canny.safetensors"
    shutil.copy(tmp_path / "net" / "diffusion_pytorch_model.safetensors", alone)
    save_file(in_its_first_code(controlnet), tmp_path / "control_v11_canny.safetensors")
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(sd1, controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    noise = PictureNoise((3,)).draw((4, 16, 16))
    edges = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    how = {"num_inference_steps": 3, "guidance_scale": 3.0, "controlnet_conditioning_scale": 0.8}
    expected = pixels(pipeline(PROMPT, edges, latents=noise, height=128, width=128, **how).images[0])
    for source in (tmp_path / "net", alone, tmp_path / "control_v11_canny.safetensors"):
        assert abs(with_control(sd1, source) - expected).max() <= 1
    assert abs(painted(fewstep.load(sd1, device="cpu")) - expected).max() > 5


def in_its_first_code(net: ControlNetModel) -> dict[str, Tensor]:
    """A ControlNet's weights under the names that they were first published with."""
    from fewstep.models.families.unet_names import stability_names

    weights = {key: value.detach().clone().contiguous() for key, value in net.state_dict().items()}
    layers = {key.rsplit(".", 1)[0] for key in weights}
    spelled = {layer: name for name, layer in stability_names(layers, net.config).items()}
    renamed = {"controlnet_mid_block": "middle_block_out.0", "controlnet_cond_embedding.conv_in": "input_hint_block.0"}
    blocks = len(net.controlnet_cond_embedding.blocks)
    renamed |= {f"controlnet_cond_embedding.blocks.{n}": f"input_hint_block.{2 * n + 2}" for n in range(blocks)}
    renamed["controlnet_cond_embedding.conv_out"] = f"input_hint_block.{2 * blocks + 2}"
    renamed |= {f"controlnet_down_blocks.{n}": f"zero_convs.{n}.0" for n in range(len(net.controlnet_down_blocks))}
    tensors = {}
    for key, value in weights.items():
        layer, kind = key.rsplit(".", 1)
        tensors[f"control_model.{renamed.get(layer) or spelled[layer]}.{kind}"] = value
    return tensors


def test_a_controlnet_of_another_family_is_refused(sdxl: Path, controlnet: ControlNetModel, tmp_path: Path) -> None:
    save_file(in_its_first_code(controlnet), tmp_path / "x.safetensors")
    with pytest.raises(InvalidModel, match="is a ControlNet for a base with text states of 32, and the model is"):
        fewstep.load(sdxl, device="cpu", controlnets=[tmp_path / "x.safetensors"])


# Words of one's own


def write_embedding(path: Path, form: str, count: int = 2, width: int = HIDDEN) -> Path:
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(1))
    save_file({"diffusers": {"<toy>": vectors}, "web": {"emb_params": vectors}}[form], path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", ["diffusers", "web"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_embedding_paints_as_in_diffusers(form: str, count: int, sd1: Path, tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "<toy>.safetensors", form, count)
    pipeline = StableDiffusionPipeline.from_pretrained(sd1)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(str(path), token="<toy>")
    noise = PictureNoise((3,)).draw((4, 16, 16))
    how = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 128, "width": 128}
    prompt = "a red <toy> face"
    expected = pixels(pipeline(prompt, negative_prompt="dog <toy>", latents=noise, **how).images[0])
    model = fewstep.load(sd1, device="cpu", embeddings=[path])
    assert abs(painted(model, prompt, negative_prompt="dog <toy>") - expected).max() <= 1
    assert abs(painted(model, "a red <TOY> face", negative_prompt="dog <toy>") - expected).max() <= 1
    plain = fewstep.load(sd1, device="cpu")
    assert abs(painted(plain, prompt, negative_prompt="dog <toy>") - expected).max() > 3
    assert (painted(model) == painted(plain)).all()  # where the word is not said


def test_an_embedding_of_sdxl_speaks_to_both_encoders(sdxl: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    state = {
        "clip_l": torch.randn(2, HIDDEN, generator=generator),
        "clip_g": torch.randn(2, HIDDEN_2, generator=generator),
    }
    save_file(state, tmp_path / "toy.safetensors")
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    for key, part in (("clip_l", ""), ("clip_g", "_2")):
        text = (getattr(pipeline, f"text_encoder{part}"), getattr(pipeline, f"tokenizer{part}"))
        pipeline.load_textual_inversion(state[key], token="<toy>", text_encoder=text[0], tokenizer=text[1])
    noise = PictureNoise((3,)).draw((4, 16, 16))
    how = {"num_inference_steps": 3, "guidance_scale": 3.0, "height": 128, "width": 128}
    expected = pixels(pipeline("a <toy> cat", latents=noise, **how).images[0])
    model = fewstep.load(sdxl, device="cpu", embeddings=[(tmp_path / "toy.safetensors", "<toy>")])
    assert abs(painted(model, "a <toy> cat") - expected).max() <= 1
    assert abs(painted(model, "a cat") - expected).max() > 3


@pytest.mark.parametrize(
    ("source", "word"), [("toy.safetensors", "<toy>"), ("toy.safetensors=my toy", "my toy"), ("folder", "<toy>")]
)
def test_the_word_of_an_embedding(
    source: str, word: str, sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_embedding(Path("toy.safetensors"), "diffusers")
    Path("folder").mkdir()
    shutil.copy("toy.safetensors", "folder/learned_embeds.safetensors")
    model = fewstep.load(sd1, device="cpu", embeddings=[source])
    assert model.embeddings is not None
    assert [each.word for each in model.embeddings.words] == [word]
    spoken, silent = (painted(model, f"a {each} cat") for each in (word, "dog"))
    assert abs(spoken - silent).max() > 3


def test_an_embedding_called_by_its_file_where_it_has_no_word(tmp_path: Path) -> None:
    assert read_embedding(write_embedding(tmp_path / "easynegative.safetensors", "web")).word == "easynegative"


def test_embeddings_that_do_not_fit(sd1: Path, sdxl: Path, tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "toy.safetensors", "web")
    with pytest.raises(InvalidRequest, match="two embeddings are called 'toy'"):
        fewstep.load(sd1, device="cpu", embeddings=[path, path])
    with pytest.raises(
        InvalidModel, match=r"the embedding toy\.safetensors was made for a base with text states of 32"
    ):
        fewstep.load(sdxl, device="cpu", embeddings=[path])
    with pytest.raises(InvalidModel, match="is no embedding: it is a LoRA"):
        fewstep.load(sd1, device="cpu", embeddings=[write_lora(tmp_path / "x")])
    with pytest.raises(ModelNotFound, match=r"no embedding 'nowhere\.safetensors'"):
        fewstep.load(sd1, device="cpu", embeddings=["nowhere.safetensors"])


# What things are

ALONE: dict[str, tuple[dict[str, Tensor], Thing]] = {
    "esrgan": ({"model.0.weight": torch.zeros(1), "model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(1)}, "upscaler"),
    "realesrgan": ({"conv_first.weight": torch.zeros(1), "body.0.rdb1.conv1.weight": torch.zeros(1)}, "upscaler"),
    "clip": ({"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(1)}, "text encoder"),
    "t5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)}, "text encoder"),
    "flux": ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, "transformer"),
    "control-lora": ({"lora_controlnet": torch.zeros(0), "input_blocks.0.0.down": torch.zeros(1)}, "control-lora"),
    "t2i": ({"body.0.in_conv.weight": torch.zeros(1), "conv_in.weight": torch.zeros(1)}, "t2i-adapter"),
    "unet": ({"model.diffusion_model.x.attn2.to_k.weight": torch.zeros(4, 768)}, "unet"),
    "controlnet": ({"control_model.input_blocks.1.1.attn2.to_k.weight": torch.zeros(4, 768)}, "controlnet"),
    "ip": (
        {"image_proj.proj.weight": torch.zeros(1), "ip_adapter.1.to_k_ip.weight": torch.zeros(4, 768)},
        "ip-adapter",
    ),
    "embedding": ({"emb_params": torch.zeros(2, 768)}, "embedding"),
    "vae": ({"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}, "autoencoder"),
    "lora": ({"lora_unet_x.lora_down.weight": torch.zeros(3, 4)}, "lora"),
    "loha": ({"lora_unet_x.hada_w1_a": torch.zeros(3, 4)}, "lora"),
    "words": ({"something.weight": torch.zeros(1)}, "unknown"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_every_door_refuses_a_thing_for_what_it_is(name: str, sd1: Path, tmp_path: Path) -> None:
    tensors, thing = ALONE[name]
    path = tmp_path / f"{name}.safetensors"
    save_file(tensors, path)
    found = identify(path)
    assert found.thing == thing
    said = found.words if thing != "unknown" else "that fewstep knows"
    doors: dict[Thing, Callable[[], object]] = {
        "checkpoint": lambda: fewstep.load(path),
        "lora": lambda: LoraFile.read(path),
        "embedding": lambda: read_embedding(path),
        "unet": lambda: fewstep.load(sd1, device="cpu", unet=path),
        "controlnet": lambda: fewstep.load(sd1, device="cpu", controlnets=[path]),
    }
    for door, enter in doors.items():
        if door == thing or (door, thing) == ("controlnet", "ip-adapter"):
            continue
        with pytest.raises(InvalidModel) as error:
            enter()
        assert said.split(" for ")[0] in str(error.value)
        if thing != "unknown":
            assert found.advice in str(error.value)
    assert (str(path) in str(refusal(path, "thing"))) is True


@pytest.mark.parametrize(
    ("name", "expected", "by"),
    [
        ("v2-1_768-ema-pruned", "v_prediction", "shapes"),
        ("v2-1_512-ema-pruned", "epsilon", "name"),
        ("x15120", "v_prediction", "shapes"),
    ],
)
def test_models_of_sd2_say_by_their_size_what_they_predict(name: str, expected: str, by: str) -> None:
    said = prediction({}, {}, {}, (), (name,), default="v_prediction")
    assert (said.value, said.by) == (expected, by)
    told = prediction({}, {}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, (), (name,), "v_prediction")
    assert (told.value, told.by) == ("v_prediction", "metadata")


def test_a_distilled_sdxl_in_one_file(sdxl: Path, tmp_path: Path) -> None:
    """SSD-1B as A1111's users have it: what was cut out is not missed."""
    folder = shutil.copytree(sdxl, tmp_path / "ssd", ignore=shutil.ignore_patterns("unet"))
    whole = UNet2DConditionModel.from_pretrained(sdxl / "unet")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        UNet2DConditionModel.from_config({**whole.config, **SSD_1B}).save_pretrained(folder / "unet")
    path = write_original(folder, tmp_path / "ssd.safetensors")
    model = fewstep.load(path, device="cpu", config=folder)
    assert abs(painted(model) - painted(fewstep.load(folder, device="cpu"))).max() <= 1
