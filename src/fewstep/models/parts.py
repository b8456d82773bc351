"""One part of a model: the folder that it lies in becomes diffusers' or transformers' own object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from fewstep.errors import FewstepError, InvalidModel
from fewstep.models import packed
from fewstep.models.config import Config, class_name
from fewstep.models.families.base import Part
from fewstep.models.identify import identify
from fewstep.models.lean.autoencoder import Autoencoder
from fewstep.models.lean.clip_text import ClipTextModel
from fewstep.models.lean.part import LeanPart
from fewstep.models.lean.tokenizer import ClipTokenizer
from fewstep.models.lean.unet import UNet
from fewstep.models.locating import PACKED, find_weights, read_json
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.variants import chosen_variant

LEAN: tuple[type[LeanPart], ...] = (UNet, Autoencoder, ClipTextModel)
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")


def read_network(part: Part, folder: Path, dtype: torch.dtype, variant: str | None = None) -> nn.Module:
    """The part in `folder`, from the weights of its `variant` (`variants.chosen_variant`)."""
    find_weights(folder, dtype, variant)
    variant = chosen_variant(folder, dtype, variant)
    config = read_json(folder / "config.json")
    check_class(part, config, folder)
    with explained(folder):
        if (folder / PACKED).is_file():
            return _unpacked(config, folder).to(dtype)
        with quiet():
            return _class(part, class_name(config), folder).from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant
            )


def _unpacked(config: Config, folder: Path) -> nn.Module:
    """The network of a folder whose weights are packed, in the float16 numbers that they stand for."""
    kind = next((kind for kind in LEAN if kind.twin[0] == class_name(config) and kind.fits(config)), None)
    if kind is None:
        raise InvalidModel(f"{folder} has packed weights, and fewstep packs other networks: install a newer fewstep")
    weights, _ = packed.read(folder / PACKED)
    with torch.device("meta"):
        network = kind(config)
    network.load_state_dict(weights, assign=True)
    return network


def read_decoder(folder: Path, dtype: torch.dtype) -> nn.Module:
    """A fast decoder."""
    from fewstep.models.fast_decoder import FastDecoder

    with explained(folder):
        return FastDecoder.load(folder).to(dtype)


def read_tokenizer(part: Part, folder: Path, *, lean: bool = False) -> Tokenizer:
    """transformers' own, or a lean one."""
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise InvalidModel(f"{folder} has no vocabulary (tokenizer.json, or vocab.json and merges.txt)")
    with explained(folder):
        if lean:
            return cast("Tokenizer", ClipTokenizer(folder))  # CLIP's readers pad by themselves
        with quiet():
            return _class(part, next(iter(part.classes)), folder).from_pretrained(folder, local_files_only=True)


def check_class(part: Part, config: Config, folder: Path) -> None:
    """Raises `InvalidModel` where a folder holds something else than the part."""
    name = class_name(config)
    if name not in part.classes:
        if (found := identify(folder)).thing != "unknown":
            what = f"it is {found.words}; {found.advice}"
            raise InvalidModel(f"{folder} holds a {name}, so it is no {part.what}: {what}")
        raise InvalidModel(f"{folder} holds a {name}; fewstep knows {', '.join(part.classes)} for this part")


def _class(part: Part, name: str, folder: Path) -> Any:
    check_class(part, {"_class_name": name}, folder)
    return getattr(import_module(part.classes[name]), name)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Whatever the libraries raise over a damaged part (tokenizers raise bare `Exception`s) in one line of ours."""
    try:
        yield
    except FewstepError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        raise InvalidModel(f"{folder} cannot be loaded: {type(error).__name__}: {said[:400]}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or remarks about configs from the two libraries while they load."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, progress) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if progress:
                library.enable_progress_bar()
