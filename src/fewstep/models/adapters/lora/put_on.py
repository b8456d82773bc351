"""Adapters put on a model: checked against it, placed at its layers, and added into its weights for good."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from fewstep.core.profile import Facts
from fewstep.core.samplers import checked
from fewstep.errors import FewstepWarning, InvalidModel
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.base import Change
from fewstep.models.adapters.lora.layer import AdaptedLayer, Shares
from fewstep.models.adapters.lora.names import kohya_names
from fewstep.models.adapters.lora.source import LoraSpec, find_lora
from fewstep.models.adapters.lora.stack import LoraStack
from fewstep.models.families.base import Family
from fewstep.models.families.unets import named
from fewstep.models.rebuilt import Part, rebuilt

if TYPE_CHECKING:
    from fewstep.models.model import Model

Added = dict[str, dict[str, dict[int, Change]]]  # changes by part, layer, and number in the stack


def with_loras(model: Model, specs: Iterable[str | Path | tuple[str | Path, float]], kind: str | None = None) -> Model:
    """A model with adapters on top, more on top of those that this one has; it shares their weights with this one.

    kind  what the model with them is, where that was said ("lcm", "diffusion"): an adapter's name then decides nothing

    An LCM-LoRA also turns the profile into that of a few-step model, so that its schedule cannot be forgotten.
    Raises `ModelNotFound`, `InvalidModel` for an adapter of another base or an LCM-LoRA on
    a consistency model, `InvalidRequest` for its weight; warns of layers that the model does not have.
    """
    stack = model.loras or LoraStack()
    added: Added = {}
    for spec in map(LoraSpec.of, specs):
        file = find_lora(spec.source, model)
        few_steps = _check_fits(file, model, kind)
        for part, layers in _placed(file, model).items():
            for name, change in layers.items():
                added.setdefault(part, {}).setdefault(name, {})[len(stack.names)] = change
        stack = stack.plus(file, spec.weight)
        if few_steps:
            file.few_step.announce(str(file.path), "an LCM-LoRA (few steps, no guidance)", "--kind diffusion")
            model = _few_step(model, file)
    networks = {part: _adapted(network, added.get(part, {}), stack.shares) for part, network in model.networks.items()}
    return model.with_networks(networks, dataclasses.replace(model.adapters, loras=stack))


def _placed(file: LoraFile, model: Model) -> dict[str, dict[str, Change]]:
    """The file's changes by part and layer of the model; warns of those that the model does not have."""
    placed: dict[str, dict[str, Change]] = {}
    unmatched: list[str] = []
    for part, layers in file.for_family(model.family).items():
        network = model.networks.get(part)
        if network is None:
            unmatched += [f"{part}: {name}" for name in layers]
            continue
        placed[part], missing = place(layers, network, part, model.family)
        unmatched += [f"{part}: {name}" for name in missing]
    if not (matched := sum(map(len, placed.values()))):
        raise InvalidModel(f"{file.path} does not fit {model.name}: not one of its layers is there ({unmatched[0]})")
    if unmatched:
        shown = ", ".join(unmatched[:3]) + (", …" if len(unmatched) > 3 else "")
        warnings.warn(
            f"{file.path.name}: {len(unmatched)} of {len(unmatched) + matched} layers are not in {model.name} and are "
            f"left out ({shown})",
            FewstepWarning,
            stacklevel=4,
        )
    if file.left_out:
        _warn_of_left_out(file)
    return placed


def _warn_of_left_out(file: LoraFile) -> None:
    shown = ", ".join(file.left_out[:3]) + (", …" if len(file.left_out) > 3 else "")
    warnings.warn(
        f"{file.path.name}: {len(file.left_out)} of its tensors are of no layer and are left out ({shown})",
        FewstepWarning,
        stacklevel=5,
    )


def _check_fits(file: LoraFile, model: Model, kind: str | None) -> bool:
    """Whether it makes this model a few-step one; raises `InvalidModel`."""
    overruled = file.few_step.by == "name" and (kind == "diffusion" or (kind == "lcm" and model.profile.kind == "lcm"))
    makes_few_step = file.few_step.value and not overruled
    width, own = file.context_width, model.text_width
    if width is not None and width != own:
        raise InvalidModel(
            f"{file.path.name} was made for {file.family} and {model.name} is {named(own, 'of another kind')}: "
            "a LoRA fits only the family of the model that it was trained on"
        )
    if makes_few_step and model.profile.kind == "lcm":
        guessed = " (by its name; for a style of that name say --kind lcm)" if file.few_step.by == "name" else ""
        raise InvalidModel(
            f"{file.path.name} is an LCM-LoRA{guessed}, for a diffusion model to sample in few steps, and {model.name} "
            "does so already: leave it out, or give the diffusion model (for the starter: --model starter-teacher)"
        )
    return makes_few_step


def _few_step(model: Model, file: LoraFile) -> Model:
    """The model sampled as its LCM-LoRA says; raises `InvalidModel` where its record is of no use."""
    try:
        profile = checked(model.profile.as_few_step(cast("Facts", file.record)))
    except ValueError as error:
        raise InvalidModel(f"the record in {file.path.name} is damaged: {error}") from error
    return dataclasses.replace(model, profile=profile, card=dataclasses.replace(model.card, teacher=model.name))


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolutional layers by name, whether an adapter sits on them already or not."""
    adapted = {name: module for name, module in network.named_modules() if hasattr(module, "base_layer")}
    plain = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not any(outer in adapted for outer in _around(name))
    }
    return plain | adapted


def _around(name: str) -> Iterator[str]:
    """The names of the modules that a module lies in."""
    return (name[:end] for end, letter in enumerate(name) if letter == ".")


def place(
    layers: Mapping[str, Change], network: nn.Module, part: str, family: Family
) -> tuple[dict[str, Change], list[str]]:
    """The file's layers under the names of the network's own, shaped for them, and the names that do not fit."""
    there = layers_of(network)
    prefix = "" if part == family.denoiser or any(name.startswith("text_model.") for name in there) else "text_model."
    names = {prefix + name: name for name in there}  # files write `text_model.` though transformers dropped it
    spelled = kohya_names(names, family.lora_names(part, names.values(), network.config))  # type: ignore[arg-type]
    placed, missing = {}, []
    for written, layer in layers.items():
        name = names.get(spelled.get(written, written)) or names.get(prefix + written)
        fitted = None if name is None else layer.fitted(there[name].weight.shape)  # type: ignore[arg-type]
        if name is None or fitted is None:
            missing.append(written)
        else:
            placed[name] = fitted
    return placed, missing


def _adapted(network: nn.Module, added: Mapping[str, Mapping[int, Change]], shares: Shares) -> nn.Module:
    """A network whose layers have their adapters, and those `added` by layer and number, which all read `shares`."""
    instead: dict[Part, Part] = {
        layer: AdaptedLayer.on(layer, shares, added.get(name, {}))
        for name, layer in layers_of(network).items()
        if name in added or isinstance(layer, AdaptedLayer)
    }
    return rebuilt(network, instead) if instead else network


def merged(model: Model, weights: Mapping[str, float] | None = None, dtype: torch.dtype | None = None) -> Model:
    """A model with the adapters added into its weights for good, in these amounts: as fast as one without.

    dtype  of the weights that change; default: the one that they have. All others are shared with `model`

    Raises `InvalidRequest` for a weight of an adapter that is not there.
    """
    if model.loras is None:
        return model
    shares = model.loras.weigh(weights)
    networks = {part: _merged(network, shares, dtype) for part, network in model.networks.items()}
    model = model.with_networks(networks, dataclasses.replace(model.adapters, loras=None))
    return dataclasses.replace(model, origin=model.origin.changed())


def _merged(network: nn.Module, shares: Sequence[float], dtype: torch.dtype | None) -> nn.Module:
    layers = [layer for layer in layers_of(network).values() if isinstance(layer, AdaptedLayer)]
    return rebuilt(network, {layer: layer.merged(shares, dtype) for layer in layers}) if layers else network
