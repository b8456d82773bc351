"""Checkpoints in one `.safetensors` file, in the names of Stability's code, as most of the world shares them.

diffusers converts the weights. The file says of which family it is; the configs are those of the published models
(`architectures`), so that nothing is asked of the network but CLIP's vocabulary, once. A folder of configs
(`config`) replaces both, for models of other shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.architectures import BY_FAMILY, Architecture
from fewstep.models.families.unet import check_channels
from fewstep.models.identify import UNET, identify, refusal
from fewstep.models.layout import Layout, family_of
from fewstep.models.locating import IS_A_REFINER, download, read_json
from fewstep.models.stated import (
    RECORD,
    Stated,
    config_beside,
    few_step_adapter,
    json_in,
    names_of_file,
    prediction,
    zero_snr,
)
from fewstep.models.tensor_file import Header, read_tensors

VOCABULARY = "openai/clip-vit-large-patch14"
_W_EMBEDDING = f"{UNET}time_embed.cond_proj.weight"
_EDM = ("edm_mean", "edm_vpred.sigma_max")  # marker tensors
_REFINER_WIDTH = 1280  # of the text states that an SDXL refiner reads
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file with a whole checkpoint states of itself, without its tensors being read.

    family      in words, also where the published shapes are not known (`architecture` is None)
    w_width     of the embedding of w, where it has one
    few_step, prediction, zero_snr  what it is, how it is sampled, and what says so
    """

    path: Path
    architecture: Architecture | None
    family: str
    in_channels: int
    w_width: int | None
    has_vae: bool
    few_step: Stated[bool]
    prediction: Stated[str]
    zero_snr: Stated[bool]

    @property
    def said_of_schedule(self) -> dict[str, Any]:
        """What the file itself says of a scheduler's config, and wins over a folder's that it is said to go with; its
        name does not.
        """
        facts: dict[str, Stated[Any]] = {"prediction_type": self.prediction, "rescale_betas_zero_snr": self.zero_snr}
        return {name: fact.value for name, fact in facts.items() if fact.by not in ("shapes", "name")}

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Raises `InvalidModel` for what is no whole Stable Diffusion checkpoint."""
        found, header = identify(path), Header.read(path)
        width = header.width("attn2.to_k.weight")
        if found.thing == "unet" and header.has(UNET):
            raise InvalidModel(
                f"{path} has no text encoder in it, so it cannot read words: it is {found.words}; {found.advice}"
            )
        if found.thing != "checkpoint" or width is None:
            raise refusal(path, "whole checkpoint of Stable Diffusion", found)
        if marks := [key for key in _EDM if key in header.shapes]:
            raise InvalidModel(f"{path} has noise levels of its own (EDM: {marks[0]}), which fewstep cannot sample")
        w = header.shapes.get(_W_EMBEDDING)
        family = family_of(width, Layout.of(header.shapes))
        record, names = json_in(header.metadata, RECORD)[0], names_of_file(path)
        told = (record, config_beside(path), header.metadata, header.shapes.keys(), names)
        default = "v_prediction" if width == 1024 else "epsilon"
        checkpoint = cls(
            path=path,
            architecture=BY_FAMILY.get(family),
            family=family,
            in_channels=header.shapes[f"{UNET}input_blocks.0.0.weight"][1],
            w_width=None if w is None else w[1],
            has_vae=header.has("first_stage_model."),
            few_step=Stated(True, "shapes") if w is not None else few_step_adapter(record, header.metadata, names),
            prediction=prediction(*told, default),
            zero_snr=zero_snr(*told),
        )
        check_channels(path, checkpoint.in_channels, 4)
        if width == _REFINER_WIDTH:
            raise InvalidModel(f"{path} {IS_A_REFINER}")
        return checkpoint


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A file's networks by their part's name, tokenizers, and the configs of the scheduler, of the autoencoder (empty
    where another one is used, and the folder of configs has none) and of the U-Net.

    checkpoint  what the file states of itself
    """

    networks: Mapping[str, Any]
    tokenizers: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    autoencoder: Mapping[str, Any]
    unet: Mapping[str, Any]
    checkpoint: Checkpoint


def unpack(
    path: Path, config: Path | None, dtype: torch.dtype, *, with_vae: bool = True, with_unet: bool = True
) -> Unpacked:
    """Read a checkpoint; raises `InvalidModel`, and `ModelNotFound` where the vocabulary is out of reach.

    config    a folder with the configs and the tokenizers of the same kind of model; default: by the file's family
    with_vae, with_unet  False where another one is used
    """
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    header = Checkpoint.read(path)
    if with_vae and not header.has_vae:
        raise InvalidModel(f"{path} has no autoencoder in it: give one with --vae")
    if config is None and header.architecture is None:
        raise InvalidModel(
            f"{path} is of no family that fewstep knows ({', '.join(BY_FAMILY)}), but {header.family}: give its "
            "configs with --config"
        )
    with TemporaryDirectory() if config is None else nullcontext(config) as home:
        home = Path(home)
        if config is None:
            assert header.architecture
            _write_configs(header, header.architecture, home)
        checkpoint = load_single_file_checkpoint(str(path), local_files_only=True)
        wanted = {"vae": with_vae, "unet": with_unet}
        parts = [part for part in ("unet", "vae", "text_encoder", "text_encoder_2") if (home / part).is_dir()]
        networks = {part: _converted(part, checkpoint, home, dtype) for part in parts if wanted.get(part, True)}
        scheduler = dict(read_json(home / "scheduler" / "scheduler_config.json")) | header.said_of_schedule
        autoencoder = read_json(home / "vae" / "config.json") if with_vae or (home / "vae").is_dir() else {}
        unet = read_json(home / "unet" / "config.json")
        tokenizers = _vocabularies(path, header.architecture) if config is None else _tokenizers(home)
    return Unpacked(networks, tokenizers, scheduler, autoencoder, unet, header)


def unpack_autoencoder(path: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """An autoencoder alone, in Stability's names or in diffusers', of the shape that `config` says.

    Raises `InvalidModel` where the file holds something else, or its shape is not known.
    """
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    if not config:
        raise InvalidModel(f"{path} does not say its shape, and neither does the folder of configs: it has no vae/")
    checkpoint = load_single_file_checkpoint(str(path), local_files_only=True)
    if not any(key.removeprefix("first_stage_model.").startswith("decoder.") for key in checkpoint):
        raise refusal(path, "autoencoder")
    with TemporaryDirectory() as home:
        folder = Path(home) / "vae"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(dict(config)))
        return _converted("vae", checkpoint, Path(home), dtype)


def _converted(part: str, checkpoint: Mapping[str, Any], home: Path, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    options: dict[str, Any] = {"config": str(home), "subfolder": part, "torch_dtype": dtype, "local_files_only": True}
    if part == "unet":
        return _unet(checkpoint, read_json(home / part / "config.json"), dtype)
    if part == "vae":
        return AutoencoderKL.from_single_file(dict(checkpoint), **options)
    encoder = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    return create_diffusers_clip_model_from_ldm(encoder, checkpoint=dict(checkpoint), **options)


def unpack_unet(path: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """A U-Net alone, or out of a whole checkpoint, in Stability's names or in diffusers', of the shape that `config`
    says (the embedding of w, by the file).
    """
    from diffusers import UNet2DConditionModel

    tensors, _ = read_tensors(path)
    w = tensors.get(
        _W_EMBEDDING, tensors.get("time_embedding.cond_proj.weight", tensors.get("time_embed.cond_proj.weight"))
    )
    config = dict(config) | {"time_cond_proj_dim": None if w is None else w.shape[1]}
    if any(key.startswith(("input_blocks.", "time_embed.")) for key in tensors):
        tensors = {f"{UNET}{key}": value for key, value in tensors.items()}
    if any(key.startswith(UNET) for key in tensors):
        return _unet(tensors, config, dtype)
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.to(dtype)


def _unet(checkpoint: Mapping[str, Any], config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """diffusers' conversion, and the embedding of w, which it does not know of."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    weights = convert_ldm_unet_checkpoint(dict(checkpoint), config=config)
    if (embedding := checkpoint.get(_W_EMBEDDING)) is not None:
        weights["time_embedding.cond_proj.weight"] = embedding
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(config)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(dtype)


def _write_configs(header: Checkpoint, architecture: Architecture, home: Path) -> None:
    unet = architecture.network("unet")
    if header.w_width is not None:
        unet.register_to_config(time_cond_proj_dim=header.w_width)  # type: ignore[operator]
    writers: dict[str, Callable[[Path], object]] = {"unet": unet.save_config}  # type: ignore[dict-item]
    for part in architecture.parts[1:]:
        network: Any = architecture.network(part)
        writers[part] = network.save_config if part == "vae" else network.config.save_pretrained
    for part, write in writers.items():
        write(home / part)
    kind = "LCMScheduler" if header.w_width is not None else "DDIMScheduler"
    scheduler = _SCHEDULER | {
        "_class_name": kind,
        "prediction_type": header.prediction.value,
        "rescale_betas_zero_snr": header.zero_snr.value,
    }
    (home / "scheduler").mkdir()
    (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def _vocabularies(path: Path, architecture: Architecture | None) -> dict[str, Any]:
    """CLIP's vocabulary, which is not in the files, from the hub or its cache; OpenCLIP pads with `!`."""
    from transformers import CLIPTokenizer

    assert architecture
    try:
        folder = download(VOCABULARY, ["vocab.json", "merges.txt", "tokenizer*.json", "special_tokens_map.json"])
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{path} needs CLIP's vocabulary ({VOCABULARY}, a megabyte), which is not in the local cache, and "
            "the hub cannot be reached; go online once, or give a folder that has it with --config"
        ) from error
    first = {"pad_token": "!"} if architecture.name == "SD 2.x" else {}
    wanted = {"tokenizer": first} | ({"tokenizer_2": {"pad_token": "!"}} if architecture.text_encoder_2 else {})
    return {
        part: CLIPTokenizer.from_pretrained(folder, local_files_only=True, **options)
        for part, options in wanted.items()
    }


def _tokenizers(home: Path) -> dict[str, Any]:
    from transformers import CLIPTokenizer

    parts = [part for part in ("tokenizer", "tokenizer_2") if (home / part).is_dir()]
    return {part: CLIPTokenizer.from_pretrained(home / part, local_files_only=True) for part in parts}
