"""A LoRA file in another spelling, for the programs that read only that one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from torch import Tensor, nn

from fewstep.errors import InvalidModel
from fewstep.files import Json, new_folder, write_tensors
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.base import Change, LowRank
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.names import Spelling, write_key
from fewstep.models.adapters.lora.put_on import place
from fewstep.models.families import denoisers
from fewstep.models.families.base import Family
from fewstep.models.families.unets import with_width
from fewstep.models.model import Model

Layers = Mapping[str, Mapping[str, Change]]


def convert(file: LoraFile, spelling: Spelling, target: Path, model: Model | None = None) -> list[str]:
    """Write `file` as `target` in another spelling; returns the layers that no network has and that were left out.

    model  what it was made for, where its shapes do not tell (SD 1.x, 2.x and SDXL are known)

    `target` is a file, for "peft" a folder. Raises `InvalidModel` for a base that is not known, and for a kind of
    adapter that the spelling has no names for: all but LoRA and DoRA go into kohya's alone.
    """
    if others := sorted({change.kind for change in file.changes if change.written(spelling) is None}):
        raise InvalidModel(
            f"{file.path} is a {others[0]}, for which {spelling} has no names: choose kohya (LyCORIS' names), or add "
            "it to a model with fewstep merge"
        )
    family, networks = _networks(file, model)
    named: dict[str, dict[str, Change]] = {}
    left_out = list(file.left_out)
    for part, layers in file.for_family(family).items():
        if part not in networks:
            left_out += [f"{part}: {name}" for name in layers]
            continue
        placed, missing = place(layers, networks[part], part, family)
        named[part] = placed
        left_out += [f"{part}: {name}" for name in missing]
    if spelling == "peft" and set(named) != {family.denoiser}:
        raise InvalidModel(f"{file.path} also changes a text encoder; a PEFT folder holds one network: use diffusers")
    write_lora(named, spelling, target, record=file.record)
    return left_out


def write_lora(named: Layers, spelling: Spelling, target: Path, record: Mapping[str, Json] | None = None) -> None:
    """Write layers, under the names of the networks, as a file (a folder for "peft") in one of the spellings."""
    tensors: dict[str, Tensor] = {}
    metadata = {"format": "pt"} | ({"fewstep": json.dumps(dict(record))} if record else {})
    for part, layers in named.items():
        for name, layer in _published(part, layers, spelling).items():
            written = layer.written(spelling)
            assert written is not None
            for tensor, value in written.items():
                key = write_key(spelling, part, name, tensor, two_encoders=any(each[-1].isdigit() for each in named))
                tensors[key] = value.contiguous()
    if spelling == "kohya":
        metadata |= _kohya_metadata([layer for layers in named.values() for layer in layers.values()])
    if spelling == "diffusers":
        configs = {part: _peft_config(layers) for part, layers in named.items()}
        flat = {f"{part}.{name}": value for part, config in configs.items() for name, value in config.items()}
        metadata["lora_adapter_metadata"] = json.dumps(flat)
    _save(tensors, metadata, target, None if spelling != "peft" else _peft_config(next(iter(named.values()))))


def _kohya_metadata(changes: list[Change]) -> dict[str, str]:
    """What kohya's trainer says of an adapter."""
    if any(change.written("diffusers") is None for change in changes):  # LyCORIS alone has names for it
        return {"ss_network_module": "lycoris.kohya"}
    every = [_lora(change) for change in changes]
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(max(layer.rank for layer in every)),
        "ss_network_alpha": f"{max(layer.alpha for layer in every):g}",
    }


def _networks(file: LoraFile, model: Model | None) -> tuple[Family, Mapping[str, nn.Module]]:
    if model is not None:
        return model.family, model.networks
    family = with_width(file.context_width)
    if family is None or not family.shapes:
        raise InvalidModel(f"{file.path}: its base is {file.family}, whose layers are not known: name it with --model")
    return family, {part: family.blank(part) for part in family.networks if part != "vae"}


def _lora(change: Change) -> LowRank:
    assert change.lora is not None
    return change.lora


def _published(part: str, layers: Mapping[str, Change], spelling: Spelling) -> dict[str, Change]:
    """Files write `text_model.` before a text encoder's layers, whatever transformers calls them."""
    prefix = "" if part in denoisers() or spelling == "peft" else "text_model."
    whole = ("text_model.", "text_projection")
    return {name if name.startswith(whole) else prefix + name: layer for name, layer in layers.items()}


class _PeftConfig(TypedDict):
    peft_type: str
    r: int
    lora_alpha: float
    target_modules: list[str]
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    use_dora: NotRequired[bool]


def _peft_config(changes: Mapping[str, Change]) -> _PeftConfig:
    layers = {name: _lora(change) for name, change in changes.items()}
    first = next(iter(layers.values()))
    config: _PeftConfig = {
        "peft_type": "LORA",
        "r": first.rank,
        "lora_alpha": first.alpha,
        "target_modules": sorted(layers),
        "rank_pattern": {name: layer.rank for name, layer in layers.items() if layer.rank != first.rank},
        "alpha_pattern": {name: layer.alpha for name, layer in layers.items() if layer.alpha != first.alpha},
    }
    plain = all(isinstance(change, LoraLayer) for change in changes.values())
    return config if plain else {"use_dora": True, **config}


def _save(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], target: Path, peft_config: _PeftConfig | None
) -> None:
    from safetensors.torch import save_file

    if peft_config is None:
        write_tensors(target, tensors, metadata)
        return
    with new_folder(target) as path:
        save_file(dict(tensors), path / "adapter_model.safetensors", dict(metadata))
        (path / "adapter_config.json").write_text(json.dumps(peft_config, indent=2) + "\n")
