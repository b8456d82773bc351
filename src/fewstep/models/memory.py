"""Where a model's parts lie when the device's memory is short: all on it, in turns, or layer by layer."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.fast_decoder import FastAutoencoder
from fewstep.models.placement import dtype_of

if TYPE_CHECKING:
    from fewstep.models.bundle import ModelBundle

POLICIES = ("auto", "full", "parts", "layers")
SPARE = 0.9  # of what is free: the rest is for what else a picture takes
VALUES_A_PIXEL = 12  # times the decoder's first width, at its peak: 6 counted, 7.8 measured on a CPU, some to spare
TILE = 512  # pixels along a side of what is decoded at once, when memory is short
GIB = 2**30
TURNS = "its parts take turns there (a little slower)"
LAYERS = "every layer is brought there in turn (slow)"


@dataclass(frozen=True)
class Need:
    """Bytes: of all weights, of the largest stage's, and to decode a picture of the model's own size, or a tile."""

    weights: int
    stage: int
    whole: int
    tile: int

    @classmethod
    def of(cls, model: ModelBundle) -> Need:
        stages = [sum(map(_weight, stage)) for stage in stages_of(model)]
        height, width = model.traits.default_size
        first = model.autoencoder.config.block_out_channels[0]
        pixel = VALUES_A_PIXEL * first * dtype_of(model.autoencoder).itemsize
        whole = pixel * height * width
        return cls(sum(stages), max(stages), whole, min(whole, pixel * TILE**2))

    def policy(self, free: int) -> tuple[str, bool]:
        """What fits into `free` bytes: the policy, and whether to decode in tiles."""
        room = int(SPARE * free)
        if self.weights + self.whole <= room:
            return "full", False
        if self.weights + self.tile <= room:
            return "full", True
        return ("parts" if self.stage + self.tile <= room else "layers"), True


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available)


def check_policy(memory: str) -> str:
    """Raises `InvalidRequest` for one that does not exist."""
    if memory not in POLICIES:
        raise InvalidRequest(f"unknown memory policy {memory!r}; choose one of {', '.join(POLICIES)}")
    return memory


def placed(model: ModelBundle, device: torch.device, memory: str = "auto") -> ModelBundle:
    """A model that lies in the main memory, on its device as far as the policy says.

    full    everything lies there
    parts   the readers, the U-Net with what steers it, and the autoencoder lie there in turns
    layers  every layer is brought there when it runs: slow, and the last resort
    auto    the first of them that fits, and tiles for decoding where those are needed; anything but "full" is said

    Only a device with a memory of its own gives a choice; elsewhere everything lies where it is.
    """
    if not has_own_memory(device):
        return _whole(model, device)
    need, free = Need.of(model), free_memory(device)
    policy, tiles = need.policy(free) if memory == "auto" else (memory, memory != "full")
    tiles = tiles and model.decode_in_tiles()
    if memory == "auto" and (tiles or policy != "full"):
        how = {"full": "pictures are decoded in tiles", "parts": TURNS}
        warnings.warn(
            f"{model.name} takes {(need.weights + need.whole) / GIB:.1f} GiB, {free / GIB:.1f} are free on {device}: "
            f"{how.get(policy, LAYERS)}; --memory says otherwise",
            FewstepWarning,
            stacklevel=3,
        )
    if policy == "full":
        try:
            return _whole(model, device)
        except RuntimeError as error:
            if memory == "full" or not out_of_memory(error):
                raise
        _whole(model, torch.device("cpu"))
        free_cache(device)
        policy = "parts"
        warnings.warn(f"{model.name} does not fit onto {device} at once: {TURNS}", FewstepWarning, stacklevel=3)
    return in_turns(model, device) if policy == "parts" else in_layers(model, device)


def take_less(model: ModelBundle) -> str | None:
    """After a picture did not fit: take less of the device's memory from now on. Says how; None where no way is left.

    In this order: decoding in tiles, the parts in turns, every layer in its turn. The model is changed in place; the
    networks of one in training, which the optimiser holds too, stay where they are.
    """
    device = model.device
    free_cache(device)
    if model.decode_in_tiles():
        return "pictures are decoded in tiles"
    if not has_own_memory(device) or in_layers_already(model) or in_training(model):
        return None
    from accelerate.hooks import remove_hook_from_module

    had_turns = model.runs_on is not None
    for network in chain(*stages_of(model)):
        remove_hook_from_module(network)
        network.to("cpu")
    free_cache(device)
    (in_layers if had_turns else in_turns)(model, device)
    object.__setattr__(model, "runs_on", device)
    return LAYERS if had_turns else TURNS


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that the memory is used up: CUDA has an exception for that, Apple's and the CPU have words."""
    words = ("out of memory", "Invalid buffer size", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def free_cache(device: torch.device) -> None:
    """Give back what PyTorch, or on a CPU the C library, keeps of a device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if malloc_trim is not None:
            malloc_trim(0)


def has_own_memory(device: torch.device) -> bool:
    """Whether it has a memory apart from the processor's; Apple's share one."""
    return device.type == "cuda"


def in_layers_already(model: ModelBundle) -> bool:
    return any(parameter.is_meta for parameter in model.unet.parameters())


def in_training(model: ModelBundle) -> bool:
    return any(parameter.requires_grad for parameter in model.unet.parameters())


def stages_of(model: ModelBundle) -> list[list[Any]]:
    """The networks that run together: those that read, those that paint, the one that decodes."""
    readers = [model.text_encoder, *([] if model.text_encoder_2 is None else [model.text_encoder_2])]
    readers += [network for each in model.adapters.steering for network in each.readers]
    steering = [network for each in model.adapters.steering for network in each.networks]
    return [readers, [model.unet, *steering], _decoding(model.autoencoder)]


def _decoding(autoencoder: Any) -> list[Any]:
    """The networks that are called: of one with a fast decoder, that and the autoencoder itself."""
    fast = isinstance(autoencoder, FastAutoencoder)
    return [autoencoder.autoencoder, autoencoder.decoder] if fast else [autoencoder]


def in_turns(model: ModelBundle, device: torch.device) -> ModelBundle:
    """One stage lies on the device at a time."""
    from accelerate.hooks import ModelHook, add_hook_to_module
    from accelerate.utils import send_to_device

    stages = stages_of(model)
    turns = _Turns(stages, device)

    class Turn(ModelHook):
        """Before a network runs, its stage is brought to the device, and the one before it is sent away."""

        def __init__(self, stage: int) -> None:
            self.stage = stage

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            turns.take(self.stage)
            return send_to_device(args, device), send_to_device(kwargs, device)

    for number, stage in enumerate(stages):
        for network in stage:
            add_hook_to_module(network, Turn(number))
    return dataclasses.replace(model, runs_on=device)


def in_layers(model: ModelBundle, device: torch.device) -> ModelBundle:
    """Every layer is brought to the device when it runs (accelerate's CPU offload)."""
    from accelerate import cpu_offload

    for stage in stages_of(model):
        for network in stage:
            cpu_offload(network, execution_device=device)
    return dataclasses.replace(model, runs_on=device)


def in_float32(network: Any, device: torch.device) -> None:
    """A network in float32 from now on, also where its layers are brought to the device one by one."""
    if any(parameter.is_meta for parameter in network.parameters()):  # its weights are with its hooks
        from accelerate import cpu_offload
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(network, recurse=True)
        cpu_offload(network.float(), execution_device=device)
    else:
        network.float()


class _Turns:
    """Which stage lies on the device."""

    def __init__(self, stages: Sequence[Sequence[nn.Module]], device: torch.device) -> None:
        self._stages, self._device = stages, device
        self.here: int | None = None

    def take(self, stage: int) -> None:
        if stage == self.here:
            return
        for network in () if self.here is None else self._stages[self.here]:
            network.to("cpu")
        for network in self._stages[stage]:
            network.to(self._device)
        self.here = stage


def _whole(model: ModelBundle, device: torch.device) -> ModelBundle:
    for stage in stages_of(model):
        for network in stage:
            network.to(device)
    return model


def _weight(network: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in (*network.parameters(), *network.buffers()))
