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
from fewstep.models.architectures import BY_CONTEXT_WIDTH, Architecture
from fewstep.models.kinds import check_channels
from fewstep.models.locating import IS_A_REFINER, download, read_json

VOCABULARY = "openai/clip-vit-large-patch14"
_UNET = "model.diffusion_model."
_W_EMBEDDING = f"{_UNET}time_embed.cond_proj.weight"
_TEXT = ("cond_stage_model.", "conditioner.embedders.")
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
class Header:
    """What the names and shapes in a file say: `w_width` of the embedding of w where it is an LCM."""

    path: Path
    architecture: Architecture | None
    in_channels: int
    w_width: int | None
    has_vae: bool

    @classmethod
    def read(cls, path: Path) -> Header:
        """Raises `InvalidModel` for what is no whole Stable Diffusion checkpoint."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InvalidModel(f"{path} cannot be read as safetensors: {error}") from error
        contexts = [shape[1] for key, shape in shapes.items() if key.endswith("attn2.to_k.weight")]
        if not any(key.startswith(_UNET) for key in shapes) or not contexts:
            adapter = " (it looks like a LoRA: give it with --lora)" if any("lora" in key for key in shapes) else ""
            raise InvalidModel(f"{path} is no whole checkpoint of Stable Diffusion: it has no {_UNET}…{adapter}")
        if not any(key.startswith(_TEXT) for key in shapes):
            raise InvalidModel(f"{path} has no text encoder in it, so it cannot read words")
        w = shapes.get(_W_EMBEDDING)
        header = cls(
            path=path,
            architecture=BY_CONTEXT_WIDTH.get(contexts[0]),
            in_channels=shapes[f"{_UNET}input_blocks.0.0.weight"][1],
            w_width=None if w is None else w[1],
            has_vae=any(key.startswith("first_stage_model.") for key in shapes),
        )
        check_channels(path, header.in_channels, 4)
        if contexts[0] == _REFINER_WIDTH:
            raise InvalidModel(f"{path} {IS_A_REFINER}")
        return header


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a `.safetensors` with a U-Net in Stability's names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return any(key.startswith(_UNET) for key in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


@dataclass(frozen=True, eq=False)
class Unpacked:
    """A file's networks by their part's name, tokenizers, and the configs of the scheduler and the autoencoder (empty
    where another autoencoder is used, and the folder of configs has none).
    """

    networks: Mapping[str, Any]
    tokenizers: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    autoencoder: Mapping[str, Any]


def unpack(path: Path, config: Path | None, dtype: torch.dtype, *, with_vae: bool = True) -> Unpacked:
    """Read a checkpoint; raises `InvalidModel`, and `ModelNotFound` where the vocabulary is out of reach.

    config    a folder with the configs and the tokenizers of the same kind of model; default: by the file's family
    with_vae  False where another autoencoder is used
    """
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    header = Header.read(path)
    if with_vae and not header.has_vae:
        raise InvalidModel(f"{path} has no autoencoder in it: give one with --vae")
    if config is None and header.architecture is None:
        raise InvalidModel(
            f"{path} is of no family that fewstep knows (SD 1.x, 2.x, SDXL): give its configs with --config"
        )
    with TemporaryDirectory() if config is None else nullcontext(config) as home:
        home = Path(home)
        if config is None:
            assert header.architecture
            _write_configs(header, header.architecture, home)
        checkpoint = load_single_file_checkpoint(str(path), local_files_only=True)
        parts = [part for part in ("unet", "vae", "text_encoder", "text_encoder_2") if (home / part).is_dir()]
        networks = {part: _converted(part, checkpoint, home, dtype) for part in parts if part != "vae" or with_vae}
        scheduler = read_json(home / "scheduler" / "scheduler_config.json")
        autoencoder = read_json(home / "vae" / "config.json") if with_vae or (home / "vae").is_dir() else {}
        tokenizers = _vocabularies(header) if config is None else _tokenizers(home)
    return Unpacked(networks, tokenizers, scheduler, autoencoder)


def unpack_autoencoder(path: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """An autoencoder alone, in Stability's names or in diffusers', of the shape that `config` says.

    Raises `InvalidModel` where the file holds something else, or its shape is not known.
    """
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    if not config:
        raise InvalidModel(f"{path} does not say its shape, and neither does the folder of configs: it has no vae/")
    checkpoint = load_single_file_checkpoint(str(path), local_files_only=True)
    if not any(key.removeprefix("first_stage_model.").startswith("decoder.") for key in checkpoint):
        raise InvalidModel(f"{path} holds no autoencoder: none of its tensors is of a decoder")
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
        return _unet(checkpoint, home / part, dtype)
    if part == "vae":
        return AutoencoderKL.from_single_file(dict(checkpoint), **options)
    encoder = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    return create_diffusers_clip_model_from_ldm(encoder, checkpoint=dict(checkpoint), **options)


def _unet(checkpoint: Mapping[str, Any], home: Path, dtype: torch.dtype) -> Any:
    """diffusers' conversion, and the embedding of w, which it does not know of."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = UNet2DConditionModel.load_config(home)
    weights = convert_ldm_unet_checkpoint(dict(checkpoint), config=config)
    if (embedding := checkpoint.get(_W_EMBEDDING)) is not None:
        weights["time_embedding.cond_proj.weight"] = embedding
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(config)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.to(dtype)


def _write_configs(header: Header, architecture: Architecture, home: Path) -> None:
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
    prediction = "v_prediction" if architecture.name == "SD 2.x" else "epsilon"
    scheduler = _SCHEDULER | {"_class_name": kind, "prediction_type": prediction}
    (home / "scheduler").mkdir()
    (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def _vocabularies(header: Header) -> dict[str, Any]:
    """CLIP's vocabulary, which is not in the files, from the hub or its cache; OpenCLIP pads with `!`."""
    from transformers import CLIPTokenizer

    assert header.architecture
    try:
        folder = download(VOCABULARY, ["vocab.json", "merges.txt", "tokenizer*.json", "special_tokens_map.json"])
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{header.path} needs CLIP's vocabulary ({VOCABULARY}, a megabyte), which is not in the local cache, and "
            "the hub cannot be reached; go online once, or give a folder that has it with --config"
        ) from error
    first = {"pad_token": "!"} if header.architecture.name == "SD 2.x" else {}
    wanted = {"tokenizer": first} | ({"tokenizer_2": {"pad_token": "!"}} if header.architecture.text_encoder_2 else {})
    return {
        part: CLIPTokenizer.from_pretrained(folder, local_files_only=True, **options)
        for part, options in wanted.items()
    }


def _tokenizers(home: Path) -> dict[str, Any]:
    from transformers import CLIPTokenizer

    parts = [part for part in ("tokenizer", "tokenizer_2") if (home / part).is_dir()]
    return {part: CLIPTokenizer.from_pretrained(home / part, local_files_only=True) for part in parts}
