"""Stable Diffusion 3 in one file, and its transformer alone, as Stability and ComfyUI name their tensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fewstep
import verbs
from fewstep.errors import InvalidModel
from fewstep.models.identify import identify
from fewstep.models.transformer_kinds import kind_of
from models.families.test_sd3 import write

NEWER = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}
WHOLE = "model.diffusion_model."
_EMBEDDERS = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "proj_out": "final_layer.linear",
}
_BLOCK = {
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_FUSED = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}


def swapped(tensor: Tensor) -> Tensor:
    """Stability's last layers give the shift before the scale."""
    return torch.cat(tensor.chunk(2)[::-1])


def original(folder: Path) -> dict[str, Tensor]:
    """The transformer in Stability's names."""
    network = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    own, last = network.state_dict(), network.config.num_layers - 1
    found = {}
    for ending in ("", ".weight", ".bias"):
        for theirs, name in _EMBEDDERS.items():
            if (tensor := own.get(f"{theirs}{ending}")) is not None:
                found[f"{name}{ending}"] = tensor
    for ending in ("weight", "bias"):
        found[f"final_layer.adaLN_modulation.1.{ending}"] = swapped(own[f"norm_out.linear.{ending}"])
        for block in range(last + 1):
            here, there = f"transformer_blocks.{block}.", f"joint_blocks.{block}."
            for theirs, name in _BLOCK.items():
                if (tensor := own.get(f"{here}{theirs}.{ending}")) is not None:
                    turned = block == last and theirs == "norm1_context.linear"
                    found[f"{there}{name}.{ending}"] = swapped(tensor) if turned else tensor
            for name, parts in _FUSED.items():
                if f"{here}{parts[0]}.{ending}" in own:
                    found[f"{there}{name}.{ending}"] = torch.cat([own[f"{here}{each}.{ending}"] for each in parts])
    return {key: tensor.contiguous().clone() for key, tensor in found.items()}


def autoencoder(folder: Path) -> dict[str, Tensor]:
    """In Stability's names: up-blocks count the other way round, and attention is a convolution there."""
    network = AutoencoderKL.from_pretrained(folder / "vae")
    depth = len(network.config.block_out_channels)
    found = {}
    for key, value in network.state_dict().items():
        side, rest = key.split(".", 1)
        words = rest.split(".")
        if words[0] in ("down_blocks", "up_blocks"):
            number = int(words[1]) if words[0] == "down_blocks" else depth - 1 - int(words[1])
            kind = {"resnets": "block", "downsamplers": "downsample", "upsamplers": "upsample"}[words[2]]
            place = [words[3]] if kind == "block" else []
            words = [words[0].removesuffix("_blocks"), str(number), kind, *place, *words[4:]]
        elif words[:2] == ["mid_block", "resnets"]:
            words = ["mid", f"block_{int(words[2]) + 1}", *words[3:]]
        elif words[:2] == ["mid_block", "attentions"]:
            names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
            words = ["mid", "attn_1", names[words[3]], words[-1]]
            value = value[:, :, None, None] if value.ndim == 2 else value
        else:
            words[0] = {"conv_norm_out": "norm_out"}.get(words[0], words[0])
        words = [{"conv_shortcut": "nin_shortcut"}.get(word, word) for word in words]
        found[f"first_stage_model.{side}.{'.'.join(words)}"] = value.contiguous()
    return found


def encoders(folder: Path, *names: str) -> dict[str, Tensor]:
    """Behind their prefixes; CLIP-L's projection, which changes nothing in the published model, is there too."""
    homes = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}
    found = {}
    for name in names:
        for key, value in load_file(folder / homes[name] / "model.safetensors").items():
            found[f"text_encoders.{name}.transformer.{key}"] = value
    return found


def whole(folder: Path, path: Path, *names: str) -> Path:
    network = {f"{WHOLE}{key}": value for key, value in original(folder).items()}
    save_file({**network, **autoencoder(folder), **encoders(folder, *names)}, path)
    return path


def configs_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def painted(model: fewstep.Model) -> np.ndarray:
    return verbs.as_array(fewstep.text2image(model, "a cat", seed=3, steps=2, guidance_scale=4.0))


def modules(model: fewstep.Model) -> list[nn.Module]:
    return [model.network.module, model.autoencoder.module, *model.text.encoders.values()]


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    one, other = ours.state_dict(), theirs.state_dict()
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("way", ["3", *(pytest.param(way, marks=pytest.mark.slow) for way in ("3.5", "no t5"))])
def test_a_whole_file_is_what_its_folder_is(tmp_path: Path, way: str) -> None:
    folder = write(tmp_path / "sd3", reads_t5=way != "no t5", **(NEWER if way == "3.5" else {}))
    names = ("clip_l", "clip_g") if way == "no t5" else ("clip_l", "clip_g", "t5xxl")
    file = whole(folder, tmp_path / "whole.safetensors", *names)
    assert (identify(file).thing, identify(file).family) == ("checkpoint", "SD 3")
    from_file = fewstep.load(file, device="cpu", config=configs_of(folder, tmp_path / "configs"))
    from_folder = fewstep.load(folder, device="cpu")
    for ours, theirs in zip(modules(from_file), modules(from_folder), strict=True):
        assert same(ours, theirs)
    assert from_file.profile == from_folder.profile
    # the same weights lie elsewhere in memory, and sums are rounded otherwise
    assert np.abs(painted(from_file) - painted(from_folder)).max() <= 1


def test_a_projection_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    """Stability's own files have none of CLIP-L's; and one may be without T5 where its folder of configs has it."""
    folder = write(tmp_path / "sd3")
    file = whole(folder, tmp_path / "whole.safetensors", "clip_l", "clip_g")
    tensors = load_file(file)
    del tensors["text_encoders.clip_l.transformer.text_projection.weight"]
    save_file(tensors, file)
    model = fewstep.load(file, device="cpu", config=folder)
    assert torch.equal(model.text.encoders["text_encoder"].text_projection.weight, torch.eye(16))
    assert list(model.text.encoders) == ["text_encoder", "text_encoder_2"]
    assert list(model.text.tokenizers) == ["tokenizer", "tokenizer_2"]


def test_the_transformer_is_the_one_that_diffusers_reads(tmp_path: Path) -> None:
    folder = write(tmp_path / "sd3", **NEWER)
    save_file(original(folder), tmp_path / "unet.safetensors")
    theirs = SD3Transformer2DModel.from_single_file(
        str(tmp_path / "unet.safetensors"), config=str(folder), subfolder="transformer", local_files_only=True
    )
    ours = fewstep.load(folder, device="cpu", unet=tmp_path / "unet.safetensors").network.module
    assert same(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", WHOLE, "diffusers"])
def test_a_transformer_alone_over_a_folder(tmp_path: Path, prefix: str) -> None:
    folder = write(tmp_path / "sd3")
    turned = {key: value * 1.5 for key, value in original(folder).items()}
    network = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    if prefix == "diffusers":
        turned = {key: (value * 1.5).contiguous() for key, value in network.state_dict().items()}
        prefix = ""
    save_file({f"{prefix}{key}": value for key, value in turned.items()}, tmp_path / "unet.safetensors")
    other = shutil.copytree(folder, tmp_path / "other")
    network.load_state_dict({key: value * 1.5 for key, value in network.state_dict().items()})
    network.save_pretrained(other / "transformer")
    assert identify(tmp_path / "unet.safetensors").words == "a diffusion transformer for SD 3"
    ours = fewstep.load(folder, device="cpu", unet=tmp_path / "unet.safetensors")
    assert np.array_equal(painted(ours), painted(fewstep.load(other, device="cpu")))


def test_what_a_file_lacks_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "sd3")
    file = whole(folder, tmp_path / "whole.safetensors", "clip_l", "t5xxl")
    with pytest.raises(InvalidModel, match="no vocabularies and no configs in it: give a folder that has them"):
        fewstep.load(file, device="cpu")
    with pytest.raises(InvalidModel, match="has no text encoder CLIP-G in it: give it with --unet"):
        fewstep.load(file, device="cpu", config=folder)
    bare = whole(folder, tmp_path / "bare.safetensors")
    with pytest.raises(InvalidModel, match=r"no text encoder in it.* a diffusion transformer for SD 3; give it with"):
        fewstep.load(bare, device="cpu", config=folder)


def test_a_transformer_of_another_family_is_refused_for_what_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "sd3")
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, tmp_path / "flux.safetensors")
    with pytest.raises(
        InvalidModel, match=r"no transformer for SD 3: it is a diffusion transformer for FLUX.1; .*pack"
    ):
        fewstep.load(folder, device="cpu", unet=tmp_path / "flux.safetensors")
    save_file({f"{WHOLE}x.attn2.to_k.weight": torch.zeros(4, 768)}, tmp_path / "unet.safetensors")
    with pytest.raises(InvalidModel, match="no transformer for SD 3: it is a U-Net alone for"):
        fewstep.load(folder, device="cpu", unet=tmp_path / "unet.safetensors")


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("sd3", "SD 3"),
        ("flux", "FLUX.1"),
        ("flux2", "FLUX.2"),
        ("chroma", "Chroma"),
        ("hunyuan-video", "HunyuanVideo"),
        ("lumina2", "Lumina 2"),
        ("z-image-turbo", "Z-Image"),
        ("qwen-image-2.1", "Qwen-Image"),
        ("auraflow", "AuraFlow"),
    ],
)
def test_kinds_are_known_by_what_diffusers_knows_them_by(called: str, name: str) -> None:
    marks = CHECKPOINT_KEY_NAMES[called]
    kind = kind_of([marks] if isinstance(marks, str) else marks)
    assert kind is not None
    assert kind.name == name
