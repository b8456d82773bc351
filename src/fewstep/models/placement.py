"""Which device and which precision a model is put on."""

from __future__ import annotations

import torch
from torch import nn

from fewstep.errors import InvalidRequest

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the best one here: CUDA, then Apple's, then the CPU."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    allowed = devices_here()
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = None
    name = "" if chosen is None else str(chosen)
    if chosen is None or (name not in allowed and f"{name}:0" not in allowed):
        raise InvalidRequest(f"there is no device {str(device)!r} on this machine; it has {', '.join(allowed)}")
    return chosen


def devices_here() -> list[str]:
    """The names of all devices of this machine."""
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *(["mps"] if _has_mps() else [])]


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The precision asked for, or float16 on CUDA and float32 elsewhere."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = DTYPES.get(dtype.lower()) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise InvalidRequest(f"unknown dtype {str(dtype)!r}; choose one of {', '.join(DTYPES)}")
    return chosen


def device_of(network: nn.Module) -> torch.device:
    """Where the weights are. diffusers' own `.device` walks through all modules: more than a millisecond a look."""
    return next(network.parameters()).device


def dtype_of(network: nn.Module) -> torch.dtype:
    """The precision of the weights; as quick as `device_of`."""
    return next(each.dtype for each in network.parameters() if each.is_floating_point())


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
