"""Stable Diffusion 3 and 3.5 in one file, in the names of Stability's code: the whole model, or its transformer alone.

A file holds neither configs nor vocabularies: a folder of them, as diffusers publishes it, is given beside it.
diffusers converts the transformer's and the autoencoder's names; the text encoders keep those of transformers behind a
prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.errors import InvalidModel
from fewstep.models.config import Config
from fewstep.models.families import recognise
from fewstep.models.families.base import Family
from fewstep.models.families.checkpoint import Checkpoint, Unpacked
from fewstep.models.locating import read_json
from fewstep.models.stated import RECORD, Stated, few_step_adapter, json_in, names_of_file
from fewstep.models.tensor_file import Header, read_tensors
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.transformer_kinds import SD3

NETWORK = "transformer"
_WHOLE, _BLOCKS = "model.diffusion_model.", "joint_blocks."
_WRAPPING = re.compile(r"^(model\.)?diffusion_model\.")
_AUTOENCODER = "first_stage_model."
_ENCODERS = {  # where each text encoder lies in the file
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
    "text_encoder_3": "text_encoders.t5xxl.transformer.",
}
_PROJECTION = "text_projection.weight"  # the file has none of CLIP-L's where it changes nothing


def read_transformer(path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
    """The transformer, also out of a whole file, in Stability's names, ComfyUI's or diffusers'; `config` is its shape.

    Raises `InvalidModel` for the network of another family.
    """
    return _transformer(path, read_tensors(path)[0], config, dtype)


class SD3File:
    """The format; see `checkpoint.FileFormat`."""

    def reads(self, header: Header) -> bool:
        return header.has(f"{_WHOLE}{_BLOCKS}")

    def checkpoint(self, path: Path, header: Header) -> Checkpoint:
        record = json_in(header.metadata, RECORD)[0]
        return Checkpoint(
            path=path,
            family=None,  # the folder of configs says its shape
            in_words=SD3,
            embeds_w=False,
            has_autoencoder=header.has(_AUTOENCODER),
            few_step=few_step_adapter(record, header.metadata, names_of_file(path)),
            prediction=Stated("flow_prediction", "shapes"),
            zero_snr=Stated(True, "shapes"),
        )

    def unpack(
        self,
        checkpoint: Checkpoint,
        config: Path | None,
        dtype: torch.dtype,
        *,
        with_autoencoder: bool,
        with_network: bool,
    ) -> Unpacked:
        path = checkpoint.path
        if config is None:
            raise InvalidModel(
                f"{path} has no vocabularies and no configs in it: give a folder that has them, of the same model as "
                "diffusers publishes it, with --config (its weights are not needed)"
            )
        family = _family_of(path, config)
        tensors, _ = read_tensors(path)
        encoders = {part: _inside(tensors, _ENCODERS[part]) for part in family.encoders}
        for part, inside in encoders.items():
            if not inside and part not in family.optional:
                raise InvalidModel(
                    f"{path} has no {family.networks[part].what} in it: give it with --unet, over a folder that has "
                    "its text encoders (--model)"
                )
        encoders = {part: inside for part, inside in encoders.items() if inside}
        parts = [NETWORK, "vae", *encoders]
        configs = {part: _config(path, config, part) for part in parts}
        networks = {
            part: _encoder(config / part, _class_of(family, part, configs[part]), inside, dtype)
            for part, inside in encoders.items()
        }
        if with_network:
            networks[NETWORK] = _transformer(path, tensors, configs[NETWORK], dtype)
        if with_autoencoder:
            networks["vae"] = _autoencoder(config, tensors, dtype)
        return Unpacked(
            checkpoint=checkpoint,
            family=family,
            networks=networks,
            tokenizers=_tokenizers(config, family, encoders),
            configs=configs,
            scheduler=read_json(config / "scheduler" / "scheduler_config.json"),
            index={},
        )


FORMATS = (SD3File(),)


def _class_of(family: Family, part: str, config: Config) -> type:
    """transformers' class of a text encoder, which stands in its config."""
    from importlib import import_module

    known = family.networks[part].classes
    names = config.get("architectures")
    name = next((each for each in names if each in known), None) if isinstance(names, list) else None
    name = next(iter(known)) if name is None else str(name)
    found: type = getattr(import_module(known[name]), name)
    return found


def _family_of(path: Path, home: Path) -> Family:
    family = recognise(_config(path, home, NETWORK))
    if family is None or family.name != SD3:
        raise InvalidModel(f"{path} is of {SD3}, and the configs in {home} are not")
    return family


def _config(path: Path, home: Path, part: str) -> Config:
    if not (home / part / "config.json").is_file():
        raise InvalidModel(f"{path} is read by the configs in {home}, which has no {part}/config.json")
    return read_json(home / part / "config.json")


def _inside(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _transformer(path: Path, tensors: Mapping[str, Tensor], config: Config, dtype: torch.dtype) -> nn.Module:
    from diffusers import SD3Transformer2DModel
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    whole = any(key.startswith(_WHOLE) for key in tensors)  # then the other parts lie beside it
    own = {_WRAPPING.sub("", key): value for key, value in tensors.items() if not whole or key.startswith(_WHOLE)}
    if any(key.startswith(_BLOCKS) for key in own):
        own = convert_sd3_transformer_checkpoint_to_diffusers(own)
    elif "pos_embed.pos_embed" not in own:
        raise InvalidModel(f"{path} holds no transformer of {SD3}")
    with torch.device("meta"):
        network: nn.Module = SD3Transformer2DModel.from_config(config)
    network.load_state_dict(own, strict=True, assign=True)
    return network.to(dtype)


def _encoder(home: Path, kind: type, inside: dict[str, Tensor], dtype: torch.dtype) -> nn.Module:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(home, local_files_only=True)
    config = getattr(config, "text_config", config)
    if "text_model.final_layer_norm.weight" in inside and _PROJECTION not in inside:
        inside[_PROJECTION] = torch.eye(config.projection_dim)
    network, info = kind.from_pretrained(  # type: ignore[attr-defined]
        None, config=config, state_dict=inside, dtype=dtype, output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise InvalidModel(f"the file lacks {missing[0]!r} of the text encoder that {home} describes")
    encoder: nn.Module = network
    return encoder


def _autoencoder(home: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    from diffusers import AutoencoderKL

    inside = {key: value for key, value in tensors.items() if key.startswith(_AUTOENCODER)}
    network: nn.Module = AutoencoderKL.from_single_file(
        inside, config=str(home), subfolder="vae", torch_dtype=dtype, local_files_only=True
    )
    return network


def _tokenizers(home: Path, family: Family, encoders: Mapping[str, object]) -> dict[str, Tokenizer]:
    """One for each text encoder that is there."""
    from transformers import AutoTokenizer

    found = {}
    for part, encoder in zip(family.tokenizers, family.encoders, strict=True):
        if encoder in encoders:
            if not (home / part).is_dir():
                raise InvalidModel(f"{home} has no {part}/, the vocabulary of the {family.networks[encoder].what}")
            found[part] = AutoTokenizer.from_pretrained(home / part, local_files_only=True)
    return found
