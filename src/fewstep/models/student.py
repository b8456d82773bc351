"""A network in training that is the teacher itself with an adapter on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fewstep.core.denoise import Denoiser
from fewstep.core.schedule import Schedule, Time
from fewstep.errors import InvalidModel, NotInstalled
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.conditioning import Conditioning

ADAPTER = "trained"
W_DIM = 256  # of the embedding of w, as in the published LCMs


def add_adapter(unet: nn.Module, rank: int, alpha: float, targets: Sequence[str], seed: int = 0) -> None:
    """Put a new LoRA onto the layers whose names end in `targets`; from now on it alone is in training, in float32.

    It starts as no change at all (up = 0). Raises `NotInstalled` without PEFT, `InvalidModel` where no layer is meant.
    """
    if find_spec("peft") is None:
        raise NotInstalled("a LoRA is trained through PEFT, which is missing; install it: pip install 'fewstep[train]'")
    from peft import LoraConfig, inject_adapter_in_model

    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True)  # type: ignore[arg-type]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    except ValueError as error:
        raise InvalidModel(
            f"the adapter finds no layer: none of this network's ends in {', '.join(targets)}"
        ) from error
    for weight in unet.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


@runtime_checkable
class AdaptedLayer(Protocol):
    """PEFT's layer with LoRAs, by their names."""

    lora_A: Mapping[str, nn.Linear | nn.Conv2d]
    lora_B: Mapping[str, nn.Linear | nn.Conv2d]
    lora_alpha: Mapping[str, float]

    def enable_adapters(self, enabled: bool) -> None: ...


def adapted_layers(unet: nn.Module) -> dict[str, AdaptedLayer]:
    """The layers with a LoRA in training, by their names without it."""
    layers = {name: module for name, module in unet.named_modules() if isinstance(module, AdaptedLayer)}
    return {name: layer for name, layer in layers.items() if ADAPTER in layer.lora_A}


@torch.no_grad()
def adapter_layers(unet: nn.Module, gathered: Callable[[Tensor], Tensor] = Tensor.detach) -> dict[str, LoraLayer]:
    """The LoRA in training as it is now, for `lora_convert.write_lora`; on the CPU.

    gathered  makes a weight whole that is divided among processes
    """
    return {
        name: LoraLayer(
            gathered(module.lora_A[ADAPTER].weight.detach()).cpu().clone(),
            gathered(module.lora_B[ADAPTER].weight.detach()).cpu().clone(),
            float(module.lora_alpha[ADAPTER]),
        )
        for name, module in adapted_layers(unet).items()
    }


@contextmanager
def adapter_off(unet: nn.Module) -> Iterator[None]:
    """The network without its LoRA in training: the teacher that it began as, at no cost in memory."""
    layers = list(adapted_layers(unet).values())
    try:
        for module in layers:
            module.enable_adapters(False)
        yield
    finally:
        for module in layers:
            module.enable_adapters(True)


@dataclass(frozen=True, eq=False)
class Unadapted:
    """A denoiser whose network is `unet`, as it was before its LoRA; without gradient."""

    denoiser: Denoiser[Conditioning]
    unet: nn.Module

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Time, cond: Conditioning, w: float | Tensor | None = None) -> Tensor:
        with torch.no_grad(), adapter_off(self.unet):
            return self.denoiser(x_t, t, cond, w)
