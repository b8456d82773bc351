"""What this machine can do: its devices, its memory, its measured speed, and what to expect of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fewstep.models.autoencoder import Autoencoder
from fewstep.models.conditioning import Conditioning
from fewstep.models.families.unet import UNetFamily
from fewstep.models.latent_model import LatentModel

MATRIX = 2048  # of the product that measures a device's speed
REPEATS = 5


@dataclass(frozen=True)
class Speed:
    """Of one device, in one precision."""

    device: str
    dtype: str
    flops: float  # floating-point operations a second, in a product of large matrices

    def seconds(self, operations: float) -> float:
        """At least so long for so many operations: no network is faster than a bare matrix product."""
        return operations / self.flops


def described(device: str) -> str:
    """A device's name with what it is."""
    if device == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


@torch.inference_mode()
def matrix_speed(device: torch.device, dtype: torch.dtype, size: int = MATRIX) -> Speed:
    """The best of a few products of two `size` x `size` matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Speed(str(device), str(dtype).removeprefix("torch."), 2 * size**3 / _best(lambda: a @ b, device))


@torch.inference_mode()
def step_seconds(model: LatentModel) -> tuple[float, float]:
    """(seconds for one call of the U-Net, seconds to decode) for one picture of the model's own size."""
    height, width = model.traits.default_size
    cond = model.conditioned(model.encode_text(["a cat"]), height, width)
    x = torch.randn(1, *model.traits.latent_shape(height, width), device=model.device)
    t = torch.tensor([model.profile.schedule.last], device=model.device)
    w = torch.ones(1, device=model.device) if model.profile.guidance.embedded else None
    step = _best(lambda: model.denoise(x, t, cond, w), model.device)
    return step, _best(lambda: model.decode(x), model.device)


def operations(family: UNetFamily, side: int) -> tuple[float, float]:
    """(operations of one call of the network, of one decoding) for `side` x `side` pixels, counted layer by layer."""
    from torch.utils.flop_counter import FlopCounterMode

    network, autoencoder = family.network(family.blank("unet").eval()), Autoencoder(family.blank("vae").eval())
    with torch.device("meta"):
        latents = side // autoencoder.pixels_per_latent
        x, t = torch.empty(1, 4, latents, latents), torch.empty(1, dtype=torch.int64)
        cond = Conditioning(torch.empty(1, 77, family.text_width), torch.empty(1, 1280), torch.empty(1, 6))
    with FlopCounterMode(display=False) as calls:
        network(x, t, cond)
    with FlopCounterMode(display=False) as decoding:
        autoencoder.decode_unscaled(x)
    return float(calls.get_total_flops()), float(decoding.get_total_flops())


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few calls, after one that warms up."""
    call()
    seconds = []
    for _ in range(REPEATS):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
