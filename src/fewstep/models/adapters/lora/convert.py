"""A LoRA file in another spelling, for the programs that read only that one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.files import new_folder, write_tensors
from fewstep.models.adapters.lora.changes import (
    Change,
    DoraLayer,
    FullLayer,
    InputOftLayer,
    LohaLayer,
    LokrLayer,
    LoraLayer,
    OftLayer,
)
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.names import Spelling, write_key
from fewstep.models.adapters.lora.stack import PARTS, place
from fewstep.models.architectures import BY_CONTEXT_WIDTH
from fewstep.models.bundle import ModelBundle

Layers = Mapping[str, Mapping[str, Change]]


def convert(file: LoraFile, spelling: Spelling, target: Path, model: ModelBundle | None = None) -> list[str]:
    """Write `file` as `target` in another spelling; returns the layers that no network has and that were left out.

    model  what it was made for, where its shapes do not tell (SD 1.x, 2.x and SDXL are known)

    `target` is a file, for "peft" a folder. Raises `InvalidModel` for a base that is not known, and for a kind of
    adapter that the spelling has no names for: all but LoRA and DoRA go into kohya's alone.
    """
    named_so = _plain if spelling != "kohya" else _named_by_lycoris
    if others := sorted({change.kind for change in file.changes if not named_so(change)}):
        raise InvalidModel(
            f"{file.path} is a {others[0]}, for which {spelling} has no names: choose kohya (LyCORIS' names), or add "
            "it to a model with fewstep merge"
        )
    networks = _networks(file, model)
    named: dict[str, dict[str, Change]] = {}
    left_out = list(file.left_out)
    for part, layers in file.layers.items():
        if part not in networks:
            left_out += [f"{part}: {name}" for name in layers]
            continue
        placed, missing = place(layers, networks[part], part, networks["unet"].config)
        named[part] = placed
        left_out += [f"{part}: {name}" for name in missing]
    if spelling == "peft" and set(named) != {"unet"}:
        raise InvalidModel(f"{file.path} also changes a text encoder; a PEFT folder holds one network: use diffusers")
    write_lora(named, spelling, target, record=file.record)
    return left_out


def write_lora(named: Layers, spelling: Spelling, target: Path, record: Mapping[str, Any] | None = None) -> None:
    """Write layers, under the names of the networks, as a file (a folder for "peft") in one of the spellings."""
    tensors: dict[str, Tensor] = {}
    metadata = {"format": "pt"} | ({"fewstep": json.dumps(dict(record))} if record else {})
    for part, layers in named.items():
        for name, layer in _published(part, layers, spelling).items():
            for tensor, value in _tensors(layer, spelling).items():
                key = write_key(spelling, part, name, tensor, two_encoders="text_encoder_2" in named)
                tensors[key] = value.contiguous()
    if spelling == "kohya":
        metadata |= _kohya_metadata([layer for layers in named.values() for layer in layers.values()])
    if spelling == "diffusers":
        configs = {part: _peft_config(layers) for part, layers in named.items()}
        flat = {f"{part}.{name}": value for part, config in configs.items() for name, value in config.items()}
        metadata["lora_adapter_metadata"] = json.dumps(flat)
    _save(tensors, metadata, target, None if spelling != "peft" else _peft_config(named["unet"]))


def _kohya_metadata(changes: list[Change]) -> dict[str, str]:
    """What kohya's trainer says of an adapter."""
    if not all(map(_plain, changes)):
        return {"ss_network_module": "lycoris.kohya"}
    every = [_lora(change) for change in changes]
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(max(layer.rank for layer in every)),
        "ss_network_alpha": f"{max(layer.alpha for layer in every):g}",
    }


def _networks(file: LoraFile, model: ModelBundle | None) -> dict[str, Any]:
    if model is not None:
        return {part: network for part in PARTS if (network := getattr(model, part, None)) is not None}
    architecture = BY_CONTEXT_WIDTH.get(file.context_width or 0)
    if architecture is None:
        raise InvalidModel(f"{file.path}: its base is {file.family}, whose layers are not known: name it with --model")
    return {part: architecture.network(part) for part in architecture.parts if part != "vae"}


def _plain(change: Change) -> bool:
    """Whether it is a LoRA, or DoRA on one by the length of its outputs, which all three spellings have names for."""
    if isinstance(change, DoraLayer):
        return isinstance(change.inner, LoraLayer) and not change.by_input
    return isinstance(change, LoraLayer)


def _named_by_lycoris(change: Change) -> bool:
    """Whether kohya's spelling has names for it, which for all but PEFT's kind of OFT are LyCORIS'."""
    return not isinstance(change.inner if isinstance(change, DoraLayer) else change, InputOftLayer)


def _lora(change: Change) -> LoraLayer:
    plain = change.inner if isinstance(change, DoraLayer) else change
    assert isinstance(plain, LoraLayer)
    return plain


def _tensors(change: Change, spelling: Spelling) -> dict[str, Tensor]:
    """Its tensors, by the names that `write_key` takes."""
    if not _plain(change):
        return _lycoris(change)
    layer = _lora(change)
    tensors = {"down": layer.down, "up": layer.up}
    if spelling == "kohya":
        tensors["alpha"] = torch.tensor(layer.alpha)
    if isinstance(change, DoraLayer):
        kernel = [1] * (layer.down.ndim - 1)
        flat = change.magnitude.flatten()
        if spelling == "kohya":
            tensors["dora_scale"] = flat.reshape(-1, *kernel)
        else:  # as PEFT has it: of a linear layer flat, of a convolution along its inputs' place
            tensors["lora_magnitude_vector"] = flat if layer.down.ndim == 2 else flat.reshape(1, -1, 1, 1)
    return tensors


def _lycoris(change: Change) -> dict[str, Tensor]:
    """The tensors of any kind, by LyCORIS' names."""
    if isinstance(change, DoraLayer):
        return _lycoris(change.inner) | {"dora_scale": change.magnitude}
    if isinstance(change, LoraLayer):
        return _tensors(change, "kohya")
    if isinstance(change, OftLayer):
        rescale = {} if change.rescale is None else {"rescale": change.rescale}
        return {"oft_blocks": change.blocks, "alpha": torch.tensor(change.constraint)} | rescale
    if isinstance(change, FullLayer):
        return {"diff": change.diff}
    assert isinstance(change, (LohaLayer, LokrLayer))
    prefix = "hada_" if isinstance(change, LohaLayer) else "lokr_"
    tensors = {prefix + name: factor for name, factor in change.factors.items()}
    if change.rank is None:  # LyCORIS scales only what has a rank
        tensors["lokr_w1"] = change.scale * tensors["lokr_w1"]
    return tensors | {"alpha": torch.tensor(change.scale * (change.rank or 1))}


def _published(part: str, layers: Mapping[str, Change], spelling: Spelling) -> dict[str, Change]:
    """Files write `text_model.` before a text encoder's layers, whatever transformers calls them."""
    prefix = "" if part == "unet" or spelling == "peft" else "text_model."
    whole = ("text_model.", "text_projection")
    return {name if name.startswith(whole) else prefix + name: layer for name, layer in layers.items()}


def _peft_config(changes: Mapping[str, Change]) -> dict[str, Any]:
    layers = {name: _lora(change) for name, change in changes.items()}
    first = next(iter(layers.values()))
    dora = {"use_dora": True} if any(isinstance(change, DoraLayer) for change in changes.values()) else {}
    return {
        **dora,
        "peft_type": "LORA",
        "r": first.rank,
        "lora_alpha": first.alpha,
        "target_modules": sorted(layers),
        "rank_pattern": {name: layer.rank for name, layer in layers.items() if layer.rank != first.rank},
        "alpha_pattern": {name: layer.alpha for name, layer in layers.items() if layer.alpha != first.alpha},
    }


def _save(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], target: Path, peft_config: Mapping[str, Any] | None
) -> None:
    from safetensors.torch import save_file

    if peft_config is None:
        write_tensors(target, tensors, metadata)
        return
    with new_folder(target) as path:
        save_file(dict(tensors), path / "adapter_model.safetensors", dict(metadata))
        (path / "adapter_config.json").write_text(json.dumps(peft_config, indent=2) + "\n")
