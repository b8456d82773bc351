"""Models and parts of them in one `.safetensors` file, in the names of other programs than diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from fewstep.errors import InvalidModel
from fewstep.models.config import Config
from fewstep.models.families import file_formats
from fewstep.models.families.checkpoint import Checkpoint, FileFormat, Unpacked
from fewstep.models.identify import identify, refusal
from fewstep.models.tensor_file import Header
from fewstep.models.transformer_kinds import SD3


def read_checkpoint(path: Path) -> Checkpoint:
    """What a file with a whole model states of itself; raises `InvalidModel` for what is none."""
    return _read(path)[1]


def unpack(
    path: Path, config: Path | None, dtype: torch.dtype, *, with_autoencoder: bool = True, with_network: bool = True
) -> Unpacked:
    """Read a whole model, as `FileFormat.unpack` does, with or without those of its parts that others may replace."""
    form, checkpoint = _read(path)
    if with_autoencoder and not checkpoint.has_autoencoder:
        raise InvalidModel(f"{path} has no autoencoder in it: give one with --vae")
    return form.unpack(checkpoint, config, dtype, with_autoencoder=with_autoencoder, with_network=with_network)


def unpack_autoencoder(path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
    """An autoencoder alone, in Stability's names or in diffusers', of the shape that `config` says.

    Raises `InvalidModel` where the file holds something else, or its shape is not known.
    """
    from diffusers import AutoencoderKL
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
        network: nn.Module = AutoencoderKL.from_single_file(
            dict(checkpoint), config=home, subfolder="vae", torch_dtype=dtype, local_files_only=True
        )
        return network


def _read(path: Path) -> tuple[FileFormat, Checkpoint]:
    found, header = identify(path), Header.read(path)
    if (found.thing == "unet" and found.whole_names) or (found.thing == "transformer" and found.family == SD3):
        raise InvalidModel(
            f"{path} has no text encoder in it, so it cannot read words: it is {found.words}; {found.advice}"
        )
    form = next((form for form in file_formats() if form.reads(header)), None)
    if found.thing != "checkpoint" or form is None:
        raise refusal(path, "whole checkpoint of Stable Diffusion", found)
    return form, form.checkpoint(path, header)
