"""`save` and `export`: a model as a folder that `load` and diffusers read."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import safe_open
from torch import nn

from fewstep.errors import InvalidModel
from fewstep.files import Json, new_folder
from fewstep.models.card import write_card
from fewstep.models.config import text
from fewstep.models.fast_decoder import FastDecoder
from fewstep.models.folder import Folder
from fewstep.models.lean.part import twin_of
from fewstep.models.lean.tokenizer import ClipTokenizer
from fewstep.models.loading import load
from fewstep.models.locating import FAST_DECODER, PACKED, read_json
from fewstep.models.model import Model
from fewstep.models.parts import quiet
from fewstep.models.placement import choose_dtype
from fewstep.models.profile import scheduler_of


class Saved(Protocol):
    """A part as the two libraries have it."""

    def save_pretrained(self, folder: Path, /) -> object: ...


def export(name: str | Path, target: Path, dtype: str | None = None) -> None:
    """Write a model, wherever it is read from, as a whole folder that `load` and diffusers' pipelines open.

    name   what `load` takes: a built-in name, a folder, a file, a hub id
    dtype  the precision to save in; default: the one that its weights are stored in

    Raises `CannotWrite`, `InvalidRequest`, `InvalidModel`, `ModelNotFound`.
    """
    model = load(name, device="cpu", dtype="float32")
    base = model.origin.folder
    homes = {} if base is None else Folder.read(base).parts
    stored = dtype or _stored_dtype(model.origin.weight_files[0])
    save(model, target, base=base, dtype=stored, fast_decoder=homes.get(FAST_DECODER))


def _stored_dtype(file: Path) -> str:
    """The precision of the first weight in a file; what is packed stands for float16."""
    if file.name == PACKED:
        return "float16"
    with safe_open(file, framework="pt") as opened:
        name = next(iter(opened.keys()))
        return str(opened.get_tensor(name).dtype).removeprefix("torch.")


def save(
    model: Model,
    target: Path,
    base: Path | None,
    dtype: str | None = None,
    fast_decoder: Path | None = None,
    *,
    replaces: bool = False,
) -> None:
    """Write all parts, the card and a README into the new folder `target`.

    base          the folder that the model began as: its scheduler's config is kept, as LCM's or TCD's for a
                  consistency model; None where it began as one file
    dtype         the precision to save in; default: the one that the networks have
    fast_decoder  the folder of one that goes with the autoencoder and comes along
    replaces      whether a folder that is there gives way to it, once it is whole

    Raises `CannotWrite`, `InvalidRequest` for an unknown dtype, and `InvalidModel` where adapters are not merged.
    """
    precision = None if dtype is None else choose_dtype(dtype, model.device)
    if model.adapters.loras is not None:
        raise InvalidModel(f"{model.name} has adapters on top; merge them first")
    if model.adapters.embeddings is not None:
        raise InvalidModel(f"{model.name} has embeddings, which no model folder holds: load it without them")
    own = {model.family.denoiser: model.network.module, "vae": model.autoencoder.module, **model.text.encoders}
    networks = {name: twin_of(network) for name, network in own.items()}
    tokenizers = {
        name: each.make_twin() if isinstance(each, ClipTokenizer) else each
        for name, each in model.text.tokenizers.items()
    }
    scheduler = scheduler_of(model.profile, None if base is None else Folder.read(base).scheduler)
    with new_folder(target, replaces=replaces) as folder, quiet():
        parts = cast("dict[str, Saved]", {**networks, **tokenizers})
        for name, part in parts.items():
            _in_precision(part, precision).save_pretrained(folder / name)
            _forget_origin(folder / name / "config.json")
        (folder / "scheduler").mkdir()
        _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
        _write_json(folder / "model_index.json", _index(model, parts, text(scheduler, "_class_name")))
        if fast_decoder is not None:
            (folder / FAST_DECODER).mkdir()
            FastDecoder.load(fast_decoder).save(folder / FAST_DECODER)
        card = dataclasses.replace(model.card, shared=None)
        write_card(folder, card, model.profile)
        (folder / "README.md").write_text(card.to_markdown(model.profile), encoding="utf-8")


def _in_precision(part: Saved, precision: torch.dtype | None) -> Saved:
    """The part, or where it is a network in another precision a copy of it in this one; it stays as it is."""
    if precision is None or not isinstance(part, nn.Module):
        return part
    weights = [weight for weight in (*part.parameters(), *part.buffers()) if weight.is_floating_point()]
    if all(weight.dtype is precision for weight in weights):
        return part
    instead: dict[int, object] = {}  # of each weight, by its id, as deepcopy looks up what it has copied
    for weight in weights:
        changed = weight.detach().to(precision)
        is_parameter = isinstance(weight, nn.Parameter)
        instead[id(weight)] = nn.Parameter(changed, requires_grad=False) if is_parameter else changed
    return copy.deepcopy(part, instead)


def _forget_origin(config: Path) -> None:
    """diffusers writes down the folder that a part was loaded from, which nobody else has."""
    if config.is_file():
        _write_json(config, {key: value for key, value in read_json(config).items() if key != "_name_or_path"})


def _index(model: Model, parts: Mapping[str, Saved], scheduler: str) -> dict[str, Json]:
    classes = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()}
    return {**model.family.index(model.text, model.profile), **classes, "scheduler": ["diffusers", scheduler]}


def _write_json(path: Path, content: Mapping[str, Json]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
