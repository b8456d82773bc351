"""Adapters inside a model: checked against it, stacked, and weighed anew for every row of every batch."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepWarning, InvalidModel, InvalidRequest
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.base import Change
from fewstep.models.adapters.lora.layer import AdaptedLayer, Shares
from fewstep.models.adapters.lora.names import kohya_names
from fewstep.models.adapters.lora.source import LoraSpec, check_weight, find_lora
from fewstep.models.layout import FAMILIES

if TYPE_CHECKING:
    from fewstep.models.bundle import ModelBundle

PARTS = ("unet", "text_encoder", "text_encoder_2")
# What the record of an LCM-LoRA says: how it is sampled, and on which times it was distilled.
SAMPLED = ("steps", "guidance_scale", "w_range", "sampler", "gamma", "phases")
TIMES = ("original_inference_steps", "timestep_scaling")
LCM_STEPS, LCM_GUIDANCE = 4, 1.0  # of LCM-LoRA (2311.05556): guidance is part of what it learnt


@dataclass(frozen=True, eq=False)
class LoraStack:
    """The adapters in a bundle's networks, in their order.

    names    what requests call them by
    weights  how much of each where a request says nothing
    """

    names: tuple[str, ...] = ()
    files: tuple[LoraFile, ...] = ()
    weights: tuple[float, ...] = ()
    shares: Shares = field(default_factory=Shares)

    @property
    def reads_text(self) -> bool:
        """Whether one of them changes a text encoder, so that a prompt means something else under another weight."""
        return any(part != "unet" for file in self.files for part in file.layers)

    @property
    def makes_few_step(self) -> bool:
        """Whether an LCM-LoRA is among them."""
        return any(file.kind == "lcm" for file in self.files)

    def weigh(self, wanted: Mapping[str, float] | None) -> tuple[float, ...]:
        """All weights, from those that a request names; raises `InvalidRequest`."""
        if unknown := sorted(set(wanted or ()) - set(self.names)):
            raise InvalidRequest(f"no LoRA {unknown[0]!r} here; loaded are {', '.join(self.names)}")
        return tuple(
            check_weight(name, (wanted or {}).get(name, default))
            for name, default in zip(self.names, self.weights, strict=True)
        )

    def rows(self, weights: Sequence[float], n: int) -> Tensor:
        """The weights (by default those of the stack) for `n` rows alike, (n, adapters)."""
        return torch.tensor([tuple(weights) or self.weights], dtype=torch.float32).expand(n, -1)

    @contextmanager
    def applied(self, weights: Tensor | None, device: torch.device) -> Iterator[None]:
        """Run a network on `device` with `weights` (B, adapters) for the rows of its batch; None: as by default."""
        rows = self.rows((), 1) if weights is None else weights
        alike = bool((rows == rows[:1]).all())
        self.shares.now = rows[0].tolist() if alike else list(rows.to(device).unbind(1))
        yield


def with_loras(
    model: ModelBundle, specs: Iterable[str | Path | tuple[str | Path, float]], kind: str | None = None
) -> ModelBundle:
    """The model with adapters on top, more on top of those it has; the networks are changed in place.

    kind  what the model with them is, where that was said ("lcm", "diffusion"): an adapter's name then decides nothing

    An LCM-LoRA also turns the card into that of a few-step model, so that its schedule cannot be forgotten.
    Raises `ModelNotFound`, `InvalidModel` for an adapter of another base or an LCM-LoRA on
    a consistency model, `InvalidRequest` for its weight; warns of layers that the model does not have.
    """
    for spec in map(LoraSpec.of, specs):
        model = _with_one(model, find_lora(spec.source, model), spec.weight, kind)
    return model


def _with_one(model: ModelBundle, file: LoraFile, weight: float, kind: str | None) -> ModelBundle:
    stack = model.loras or LoraStack()
    overruled = file.few_step.by == "name" and (kind == "diffusion" or (kind == "lcm" and model.kind == "lcm"))
    makes_few_step = file.few_step.value and not overruled
    _check_fits(file, model, makes_few_step)
    unmatched = []
    matched = 0
    for part, layers in file.layers.items():
        network = getattr(model, part, None)
        if network is None:
            unmatched += [f"{part}: {name}" for name in layers]
            continue
        placed, missing = place(layers, network, part, model.unet.config)
        unmatched += [f"{part}: {name}" for name in missing]
        matched += len(placed)
        if placed:
            _put_on(network, placed, len(stack.names), stack)
    if not matched:
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
    name = file.name if file.name not in stack.names else f"{file.name}-{len(stack.names) + 1}"
    stack = LoraStack((*stack.names, name), (*stack.files, file), (*stack.weights, weight), stack.shares)
    model = dataclasses.replace(model, loras=stack)
    if not makes_few_step:
        return model
    file.few_step.announce(str(file.path), "an LCM-LoRA (few steps, no guidance)", "--kind diffusion")
    return few_step(model, file.record)


def _warn_of_left_out(file: LoraFile) -> None:
    shown = ", ".join(file.left_out[:3]) + (", …" if len(file.left_out) > 3 else "")
    warnings.warn(
        f"{file.path.name}: {len(file.left_out)} of its tensors are of no layer and are left out ({shown})",
        FewstepWarning,
        stacklevel=5,
    )


def _check_fits(file: LoraFile, model: ModelBundle, makes_few_step: bool) -> None:
    width, own = file.context_width, model.unet.config.cross_attention_dim
    if width is not None and width != own:
        raise InvalidModel(
            f"{file.path.name} was made for {file.family} and {model.name} is {FAMILIES.get(own, 'of another kind')}: "
            "a LoRA fits only the family of the model that it was trained on"
        )
    if makes_few_step and model.kind == "lcm":
        guessed = " (by its name; for a style of that name say --kind lcm)" if file.few_step.by == "name" else ""
        raise InvalidModel(
            f"{file.path.name} is an LCM-LoRA{guessed}, for a diffusion model to paint in few steps, and {model.name} "
            "does so already: leave it out, or give the diffusion model (for the starter: --model starter-teacher)"
        )


def few_step(model: ModelBundle, record: Mapping[str, Any]) -> ModelBundle:
    """The model with the card and times that its LCM-LoRA was distilled for; the published ones, without a record."""
    if model.card.kind == "lcm":
        return model
    sampled = {name: record[name] for name in SAMPLED if name in record}
    if sampled.get("w_range") is not None:
        sampled["w_range"] = tuple(sampled["w_range"])
    times = {name: record[name] for name in TIMES if name in record}
    default: dict[str, Any] = {"kind": "lcm", "steps": LCM_STEPS, "guidance_scale": LCM_GUIDANCE, "w_range": None}
    card = dataclasses.replace(model.card, **default | sampled | times, teacher=model.card.name)
    return dataclasses.replace(model, card=card, settings=dataclasses.replace(model.settings, **times))


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolutional layers by name, whether an adapter sits on them already or not."""
    adapted = {name: module for name, module in network.named_modules() if hasattr(module, "base_layer")}
    plain = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not any(name.startswith(f"{each}.") for each in adapted)
    }
    return plain | adapted


def place(
    layers: Mapping[str, Change], network: nn.Module, part: str, unet_config: Mapping[str, Any]
) -> tuple[dict[str, Change], list[str]]:
    """The file's layers under the names of the network's own, shaped for them, and the names that do not fit."""
    there = layers_of(network)
    prefix = "" if part == "unet" or any(name.startswith("text_model.") for name in there) else "text_model."
    names = {prefix + name: name for name in there}  # files write `text_model.` though transformers dropped it
    spelled = kohya_names(part, names, unet_config)
    placed, missing = {}, []
    for written, layer in layers.items():
        name = names.get(spelled.get(written, written)) or names.get(prefix + written)
        fitted = None if name is None else layer.fitted(there[name].weight.shape)  # type: ignore[arg-type]
        if name is None or fitted is None:
            missing.append(written)
        else:
            placed[name] = fitted
    return placed, missing


def _put_on(network: nn.Module, layers: Mapping[str, Change], number: int, stack: LoraStack) -> None:
    """Put the changes of the stack's next adapter onto the layers, which read their share at every call."""
    modules = layers_of(network)
    for name, change in layers.items():
        module = modules[name]
        if not isinstance(module, AdaptedLayer):
            assert isinstance(module, (nn.Linear, nn.Conv2d))
            module = AdaptedLayer(module, stack.shares)
            network.set_submodule(name, module)
        module.add(number, change)


@torch.no_grad()
def merged(model: ModelBundle, weights: Mapping[str, float] | None = None) -> ModelBundle:
    """The model with its adapters added into its weights for good, in these amounts: as fast as one without.

    The networks are changed in place. Raises `InvalidRequest` for a weight of an adapter that is not there.
    """
    if model.loras is None:
        return model
    shares = model.loras.weigh(weights)
    for part in PARTS:
        network: nn.Module | None = getattr(model, part, None)
        if network is None:
            continue
        for name, module in layers_of(network).items():
            if isinstance(module, AdaptedLayer):
                network.set_submodule(name, module.merged(shares))
    return dataclasses.replace(model, loras=None, folder=None, reference=None, weight_files=())
