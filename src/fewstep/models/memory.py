"""Where a model's networks lie when the device's memory is short: all on it, in turns, or layer by layer."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models.autoencoder import Autoencoder
from fewstep.models.lean.autoencoder import Autoencoder as LeanAutoencoder
from fewstep.models.placement import device_of, dtype_of

POLICIES = ("auto", "full", "parts", "layers")
SPARE = 0.9  # of what is free: the rest is for what else a picture takes
VALUES_A_PIXEL = 12  # times the decoder's first width, at its peak: 6 counted, 7.8 measured on a CPU, some to spare
TILE = 512  # pixels along a side of what is decoded at once, when memory is short
GIB = 2**30
TILES = "pictures are decoded in tiles"
TURNS = "its parts take turns there (a little slower)"
LAYERS = "every layer is brought there in turn (slow)"


@dataclass(frozen=True, eq=False)
class Stages:
    """The networks of a model that run together: those that read, those that predict, and what decodes.

    name, size  of the model, and (height, width) of its pictures
    """

    name: str
    size: tuple[int, int]
    readers: Sequence[nn.Module]
    predictors: Sequence[nn.Module]
    autoencoder: Autoencoder

    def __iter__(self) -> Iterator[Sequence[nn.Module]]:
        return iter((self.readers, self.predictors, self.autoencoder.modules))

    @property
    def in_training(self) -> bool:
        return any(weight.requires_grad for weight in self.predictors[0].parameters())


@dataclass(frozen=True)
class Need:
    """Bytes: of all weights, of the largest stage's, and to decode a picture of the model's own size, or a tile."""

    weights: int
    stage: int
    whole: int
    tile: int

    @classmethod
    def of(cls, stages: Stages) -> Need:
        weights = [sum(map(_weight, stage)) for stage in stages]
        height, width = stages.size
        pixel = VALUES_A_PIXEL * stages.autoencoder.first_width * dtype_of(stages.autoencoder.module).itemsize
        whole = pixel * height * width
        return cls(sum(weights), max(weights), whole, min(whole, pixel * TILE**2))

    def policy(self, free: int) -> tuple[str, bool]:
        """What fits into `free` bytes: the policy, and whether to decode in tiles."""
        room = int(SPARE * free)
        if self.weights + self.whole <= room:
            return "full", False
        if self.weights + self.tile <= room:
            return "full", True
        return ("parts" if self.stage + self.tile <= room else "layers"), True


class Placement:
    """Where the networks of a model lie, in which precision and in what pieces they run: the one thing about a model
    that changes while it is used.

    device  where they run, if they do not all lie there; None: where they lie
    """

    def __init__(self) -> None:
        self.device: torch.device | None = None

    def put(self, stages: Stages, device: torch.device, memory: str = "auto") -> None:
        """Networks that lie in the main memory, on a device as far as the policy says.

        full    everything lies there
        parts   what reads, what predicts and what decodes lie there in turns
        layers  every layer is brought there when it runs: slow, and the last resort
        auto    the first of them that fits, and tiles for decoding where those are needed; anything but "full" is said

        Only a device with a memory of its own gives a choice; elsewhere everything lies where it is.
        """
        if not has_own_memory(device):
            return self.whole(stages, device)
        need, free = Need.of(stages), free_memory(device)
        policy, tiles = need.policy(free) if memory == "auto" else (memory, memory != "full")
        tiles = tiles and decode_in_tiles(stages.autoencoder)
        if memory == "auto" and (tiles or policy != "full"):
            how = {"full": TILES, "parts": TURNS}
            warnings.warn(
                f"{stages.name} takes {(need.weights + need.whole) / GIB:.1f} GiB, {free / GIB:.1f} are free on "
                f"{device}: {how.get(policy, LAYERS)}; --memory says otherwise",
                FewstepWarning,
                stacklevel=3,
            )
        if policy == "full":
            try:
                return self.whole(stages, device)
            except RuntimeError as error:
                if memory == "full" or not out_of_memory(error):
                    raise
            self.whole(stages, torch.device("cpu"))
            free_cache(device)
            policy = "parts"
            warnings.warn(f"{stages.name} does not fit onto {device} at once: {TURNS}", FewstepWarning, stacklevel=3)
        return self.in_turns(stages, device) if policy == "parts" else self.in_layers(stages, device)

    def take_less(self, stages: Stages) -> str | None:
        """After a picture did not fit: take less of the device's memory from now on. Says how; None: no way is left.

        In this order: decoding in tiles, the stages in turns, every layer in its turn. The networks of a model in
        training, which the optimiser holds too, stay where they are.
        """
        device = self.device or device_of(stages.predictors[0])
        free_cache(device)
        if decode_in_tiles(stages.autoencoder):
            return TILES
        if not has_own_memory(device) or in_layers_already(stages) or stages.in_training:
            return None
        from accelerate.hooks import remove_hook_from_module

        had_turns = self.device is not None
        for stage in stages:
            for network in stage:
                remove_hook_from_module(network)
                network.to("cpu")
        free_cache(device)
        (self.in_layers if had_turns else self.in_turns)(stages, device)
        return LAYERS if had_turns else TURNS

    def whole(self, stages: Stages, device: torch.device) -> None:
        """Everything on the device."""
        for stage in stages:
            for network in stage:
                network.to(device)

    def in_turns(self, stages: Stages, device: torch.device) -> None:
        """One stage lies on the device at a time."""
        from accelerate.hooks import ModelHook, add_hook_to_module
        from accelerate.utils import send_to_device

        turns = _Turns(list(stages), device)

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
        self.device = device

    def in_layers(self, stages: Stages, device: torch.device) -> None:
        """Every layer is brought to the device when it runs (accelerate's CPU offload)."""
        from accelerate import cpu_offload

        for stage in stages:
            for network in stage:
                cpu_offload(network, execution_device=device)
        self.device = device

    def decode(self, autoencoder: Autoencoder, latents: Tensor, device: torch.device, name: str) -> Tensor:
        """Latents to pixels; an autoencoder that overflows in float16 goes on in float32."""
        pixels = autoencoder.decode(latents, device)
        if dtype_of(autoencoder.module) != torch.float16 or pixels.isfinite().all():
            return pixels
        warnings.warn(
            f"the autoencoder of {name} overflows in float16 (a black picture): it goes on in float32",
            FewstepWarning,
            stacklevel=3,
        )
        for network in autoencoder.modules:
            _widen(network, device)
        return autoencoder.decode(latents, device)


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


def in_layers_already(stages: Stages) -> bool:
    return any(parameter.is_meta for parameter in stages.predictors[0].parameters())


def decode_in_tiles(autoencoder: Autoencoder) -> bool:
    """From now on decode large pictures tile by tile, which takes less memory; False where that changes nothing."""
    module = autoencoder.module
    if autoencoder.decoder is None and isinstance(module, LeanAutoencoder):
        module = module.handed_over()
    can = autoencoder.decoder is None and hasattr(module, "enable_tiling") and not getattr(module, "use_tiling", True)
    if can:
        module.enable_tiling()  # AutoencoderDC's tiles are of that size by themselves
        if hasattr(module, "tile_sample_min_size"):
            tile = min(TILE, module.tile_sample_min_size)
            module.tile_sample_min_size = tile
            module.tile_latent_min_size = tile // autoencoder.pixels_per_latent
    return can


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


def _widen(network: nn.Module, device: torch.device) -> None:
    """A network in float32 from now on, also where its layers are brought to the device one by one."""
    if any(parameter.is_meta for parameter in network.parameters()):  # its weights are with its hooks
        from accelerate import cpu_offload
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(network, recurse=True)
        cpu_offload(network.float(), execution_device=device)
    else:
        network.float()


def _weight(network: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in (*network.parameters(), *network.buffers()))
