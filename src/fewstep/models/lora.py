"""Adapters inside a model: checked against it, stacked, and weighed anew for every row of every batch."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepWarning, InvalidModel, InvalidRequest, NotInstalled
from fewstep.models.lora_file import FAMILIES, LoraFile, LoraLayer
from fewstep.models.lora_names import kohya_names
from fewstep.models.lora_source import LoraSpec, check_weight, find_lora

if TYPE_CHECKING:
    from fewstep.models.bundle import ModelBundle

PARTS = ("unet", "text_encoder", "text_encoder_2")
ADAPTER = "lora_"  # and a number: PEFT's names for adapters, which must not hold a dot
# What the record of an LCM-LoRA says: how it is sampled, and on which times it was distilled.
SAMPLED = ("steps", "guidance_scale", "w_range", "sampler", "gamma", "phases")
TIMES = ("original_inference_steps", "timestep_scaling")
LCM_STEPS, LCM_GUIDANCE = 4, 1.0  # of LCM-LoRA (2311.05556): guidance is part of what it learnt


class Shares:
    """The weights of the call under way, for each adapter one number, or one (B,): the layers read them as they run."""

    now: Sequence[float | Tensor] = ()


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


def with_loras(model: ModelBundle, specs: Iterable[str | Path | tuple[str | Path, float]]) -> ModelBundle:
    """The model with adapters on top, more on top of those it has; the networks are changed in place.

    An LCM-LoRA also turns the card into that of a few-step model, so that its schedule cannot be forgotten.
    Raises `NotInstalled` without PEFT, `ModelNotFound`, `InvalidModel` for an adapter of another base or an LCM-LoRA on
    a consistency model, `InvalidRequest` for its weight; warns of layers that the model does not have.
    """
    if find_spec("peft") is None:
        raise NotInstalled("adapters need PEFT, which is missing; install it with: pip install 'fewstep[lora]'")
    for spec in map(LoraSpec.of, specs):
        model = _with_one(model, find_lora(spec.source, model), spec.weight)
    return model


def _with_one(model: ModelBundle, file: LoraFile, weight: float) -> ModelBundle:
    stack = model.loras or LoraStack()
    _check_fits(file, model)
    adapter = f"{ADAPTER}{len(stack.names)}"
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
            _inject(network, placed, adapter, stack)
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
    name = file.name if file.name not in stack.names else f"{file.name}-{len(stack.names) + 1}"
    stack = LoraStack((*stack.names, name), (*stack.files, file), (*stack.weights, weight), stack.shares)
    model = dataclasses.replace(model, loras=stack)
    return few_step(model, file.record) if file.kind == "lcm" else model


def _check_fits(file: LoraFile, model: ModelBundle) -> None:
    width, own = file.context_width, model.unet.config.cross_attention_dim
    if width is not None and width != own:
        raise InvalidModel(
            f"{file.path.name} was made for {file.family} and {model.name} is {FAMILIES.get(own, 'of another kind')}: "
            "a LoRA fits only the family of the model that it was trained on"
        )
    if file.kind == model.kind == "lcm":
        guessed = "" if "kind" in file.record else " (by its name; a style of that name wants another)"
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
    layers: Mapping[str, LoraLayer], network: nn.Module, part: str, unet_config: Mapping[str, Any]
) -> tuple[dict[str, LoraLayer], list[str]]:
    """The file's layers under the names of the network's own, shaped for them, and the names that do not fit."""
    there = layers_of(network)
    prefix = "" if part == "unet" or any(name.startswith("text_model.") for name in there) else "text_model."
    names = {prefix + name: name for name in there}  # files write `text_model.` though transformers dropped it
    spelled = kohya_names(part, names, unet_config)
    placed, missing = {}, []
    for written, layer in layers.items():
        name = names.get(spelled.get(written, written)) or names.get(prefix + written)
        fitted = None if name is None else _fitted(layer, there[name])
        if name is None or fitted is None:
            missing.append(written)
        else:
            placed[name] = fitted
    return placed, missing


def _fitted(layer: LoraLayer, module: Any) -> LoraLayer | None:
    """A layer for a 1x1 convolution also fits a linear one, and the other way; None where the shapes differ."""
    weight = getattr(module, "base_layer", module).weight
    if weight.ndim == 4:
        kernel = weight.shape[2:] if layer.down.ndim == 2 else layer.down.shape[2:]
        down, up = layer.down.reshape(layer.rank, -1, *kernel), layer.up.reshape(-1, layer.rank, 1, 1)
        fits = down.shape[1:] == weight.shape[1:] and len(up) == len(weight)
    else:
        down, up = layer.down.flatten(1), layer.up.flatten(1)
        fits = (len(up), down.shape[1]) == tuple(weight.shape)
    return LoraLayer(down, up, layer.alpha) if fits else None


def _inject(network: nn.Module, layers: Mapping[str, LoraLayer], adapter: str, stack: LoraStack) -> None:
    """Put the matrices onto the layers, through PEFT, and let each read its share at every call."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        target_modules=list(layers),
        rank_pattern={f"^{re.escape(name)}": layer.rank for name, layer in layers.items()},
        r=next(iter(layers.values())).rank,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT on adapters put one over the other, which is what is wanted
        inject_adapter_in_model(config, network, adapter_name=adapter, low_cpu_mem_usage=True)
    modules = layers_of(network)
    for name, layer in layers.items():
        module: Any = modules[name]
        like = module.get_base_layer().weight
        for matrix, home in ((layer.down, module.lora_A), (layer.up, module.lora_B)):
            home[adapter].weight = nn.Parameter(matrix.to(like.device, like.dtype), requires_grad=False)
        module.lora_alpha[adapter] = layer.alpha
        module.register_forward_pre_hook(partial(_weigh, stack.shares, len(stack.names), adapter))
    for module in modules.values():
        if hasattr(module, "lora_A"):
            module.set_adapter(sorted(module.lora_A))
    network.requires_grad_(False)


def _weigh(shares: Shares, index: int, adapter: str, module: Any, inputs: Sequence[Any]) -> None:
    """Before a layer runs: its adapter's scale for every row of the input."""
    share = shares.now[index]
    if isinstance(share, Tensor):
        x = inputs[0]
        share = share.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    module.scaling[adapter] = module.lora_alpha[adapter] / module.r[adapter] * share


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
            if hasattr(module, "lora_A"):
                network.set_submodule(name, _merged_layer(module, shares))
    return dataclasses.replace(model, loras=None, folder=None, reference=None, weight_files=())


def _merged_layer(module: Any, shares: Sequence[float]) -> nn.Module:
    layer: nn.Linear | nn.Conv2d = module.get_base_layer()
    total = layer.weight.float()
    for adapter in module.lora_A:
        down, up = module.lora_A[adapter].weight.float(), module.lora_B[adapter].weight.float()
        scale = module.lora_alpha[adapter] / module.r[adapter] * shares[int(adapter.removeprefix(ADAPTER))]
        total = total + scale * torch.einsum("or,r...->o...", up.flatten(1), down)
    layer.weight.copy_(total)
    return layer
