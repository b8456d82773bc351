"""Whole checkpoints of the families with a U-Net in one file, in the names of Stability's code, as most of the world
shares them.

diffusers converts the weights. The file says of which family it is; the configs are those of the published models, so
that nothing is asked of the network but CLIP's vocabulary, once. A folder of configs replaces both, for models of other
shapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import InvalidModel, ModelNotFound
from fewstep.models.families import recognise
from fewstep.models.families.checkpoint import Checkpoint, Unpacked
from fewstep.models.families.layout import Layout
from fewstep.models.families.unet import UNetFamily, check_channels
from fewstep.models.families.unet_file import STABILITY_W_EMBEDDING, UNET, converted_unet
from fewstep.models.families.unets import unet_families, with_layers, with_width
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
from fewstep.models.tensor_file import Header
from fewstep.models.text.tokenizer import Tokenizer

VOCABULARY = "openai/clip-vit-large-patch14"
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


class StabilityFile:
    """The format; see `checkpoint.FileFormat`."""

    def reads(self, header: Header) -> bool:
        return header.has(UNET) and header.width("attn2.to_k.weight") is not None

    def checkpoint(self, path: Path, header: Header) -> Checkpoint:
        """Raises `InvalidModel` for what cannot be sampled."""
        width = header.width("attn2.to_k.weight")
        if marks := [key for key in _EDM if key in header.shapes]:
            raise InvalidModel(f"{path} has noise levels of its own (EDM: {marks[0]}), which fewstep cannot sample")
        w = header.shapes.get(STABILITY_W_EMBEDDING)
        family, in_words = with_layers(width, Layout.of(header.shapes))
        record, names = json_in(header.metadata, RECORD)[0], names_of_file(path)
        evidence = (record, config_beside(path), header.metadata, header.shapes.keys(), names)
        published = with_width(width)
        default = "epsilon" if published is None else published.prediction
        checkpoint = Checkpoint(
            path=path,
            family=family if family is not None and family.shapes else None,
            in_words=in_words,
            embeds_w=w is not None,
            has_autoencoder=header.has("first_stage_model."),
            few_step=Stated(True, "shapes") if w is not None else few_step_adapter(record, header.metadata, names),
            prediction=prediction(*evidence, default),
            zero_snr=zero_snr(*evidence),
        )
        check_channels(path, header.shapes[f"{UNET}input_blocks.0.0.weight"][1], 4)
        if width == _REFINER_WIDTH:
            raise InvalidModel(f"{path} {IS_A_REFINER}")
        return checkpoint

    def unpack(
        self,
        checkpoint: Checkpoint,
        config: Path | None,
        dtype: torch.dtype,
        *,
        with_autoencoder: bool,
        with_network: bool,
    ) -> Unpacked:
        from diffusers.loaders.single_file_utils import load_single_file_checkpoint

        family, path = checkpoint.family, checkpoint.path
        if config is None and not isinstance(family, UNetFamily):
            known = ", ".join(each.name for each in unet_families() if each.shapes)
            raise InvalidModel(
                f"{path} is of no family that fewstep knows ({known}), but {checkpoint.in_words}: give its configs "
                "with --config"
            )
        tensors = load_single_file_checkpoint(str(path), local_files_only=True)
        with TemporaryDirectory() if config is None else nullcontext(config) as home:
            home = Path(home)
            if config is None:
                assert isinstance(family, UNetFamily)
                embedding = tensors.get(STABILITY_W_EMBEDDING)
                _write_configs(checkpoint, family, None if embedding is None else embedding.shape[1], home)
                tokenizers = _vocabularies(path, family)
            else:
                tokenizers = _tokenizers(home)
            unet = read_json(home / "unet" / "config.json")
            used = recognise(unet)
            assert used is not None
            parts = [part for part in used.networks if (home / part).is_dir()]
            wanted = {"vae": with_autoencoder, "unet": with_network}
            return Unpacked(
                checkpoint=checkpoint,
                family=used,
                networks={part: _converted(part, tensors, home, dtype) for part in parts if wanted.get(part, True)},
                tokenizers=tokenizers,
                configs={part: read_json(home / part / "config.json") for part in parts},
                scheduler=dict(read_json(home / "scheduler" / "scheduler_config.json")) | checkpoint.said_of_schedule,
                index={"force_zeros_for_empty_prompt": True},
            )


FORMATS = (StabilityFile(),)


def _converted(part: str, checkpoint: Mapping[str, Tensor], home: Path, dtype: torch.dtype) -> nn.Module:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    options = {"config": str(home), "subfolder": part, "torch_dtype": dtype, "local_files_only": True}
    if part == "unet":
        return converted_unet(checkpoint, read_json(home / part / "config.json"), dtype)
    if part == "vae":
        return AutoencoderKL.from_single_file(dict(checkpoint), **options)
    encoder = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    return create_diffusers_clip_model_from_ldm(encoder, checkpoint=dict(checkpoint), **options)


def _write_configs(checkpoint: Checkpoint, family: UNetFamily, w_width: int | None, home: Path) -> None:
    for part in family.networks:
        network: Any = family.blank(part)
        if part == "unet" and w_width is not None:
            network.register_to_config(time_cond_proj_dim=w_width)
        (network.config.save_pretrained if part in family.encoders else network.save_config)(home / part)
    scheduler = _SCHEDULER | {
        "_class_name": "LCMScheduler" if w_width is not None else "DDIMScheduler",
        "prediction_type": checkpoint.prediction.value,
        "rescale_betas_zero_snr": checkpoint.zero_snr.value,
    }
    (home / "scheduler").mkdir()
    (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def _vocabularies(path: Path, family: UNetFamily) -> dict[str, Tokenizer]:
    """CLIP's vocabulary, which is not in the files, from the hub or its cache; OpenCLIP pads with `!`."""
    from transformers import CLIPTokenizer

    try:
        folder = download(VOCABULARY, ["vocab.json", "merges.txt", "tokenizer*.json", "special_tokens_map.json"])
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{path} needs CLIP's vocabulary ({VOCABULARY}, a megabyte), which is not in the local cache, and "
            "the hub cannot be reached; go online once, or give a folder that has it with --config"
        ) from error
    padding = {
        part: {"pad_token": family.padding[part]} if part in family.padding else {} for part in family.tokenizers
    }
    return {
        part: CLIPTokenizer.from_pretrained(folder, local_files_only=True, **options)
        for part, options in padding.items()
    }


def _tokenizers(home: Path) -> dict[str, Tokenizer]:
    from transformers import CLIPTokenizer

    parts = [part for part in ("tokenizer", "tokenizer_2") if (home / part).is_dir()]
    return {part: CLIPTokenizer.from_pretrained(home / part, local_files_only=True) for part in parts}
