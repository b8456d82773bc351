"""Rectified flow (Liu et al. 2022, 2209.03003), as SD3, SANA and FLUX use it: a straight line to noise."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.core.schedule import Schedule, Time, real
from fewstep.core.schedule_config import Flow, SizeShift

SHIFT_TYPES = ("exponential", "linear")


@dataclass(frozen=True)
class ShiftBySize:
    """The shift of a flow as a function of the picture's tokens; diffusers' `use_dynamic_shifting`, in its names.

    mu is the line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift). The shift is e^mu for
    "exponential", mu itself for "linear".
    """

    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    time_shift_type: str = "exponential"

    def __post_init__(self) -> None:
        if self.time_shift_type not in SHIFT_TYPES:
            raise ValueError(f"unknown time_shift_type {self.time_shift_type!r}; allowed are {', '.join(SHIFT_TYPES)}")
        if self.base_image_seq_len >= self.max_image_seq_len:
            raise ValueError(
                f"base_image_seq_len {self.base_image_seq_len} must lie below max_image_seq_len, "
                f"{self.max_image_seq_len}"
            )

    def __call__(self, tokens: int) -> float:
        slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len)
        mu = self.base_shift + slope * (tokens - self.base_image_seq_len)
        return math.exp(mu) if self.time_shift_type == "exponential" else mu

    def to_config(self) -> SizeShift:
        return {
            "base_shift": self.base_shift,
            "max_shift": self.max_shift,
            "base_image_seq_len": self.base_image_seq_len,
            "max_image_seq_len": self.max_image_seq_len,
            "time_shift_type": self.time_shift_type,
        }


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """alpha = 1 - sigma and sigma = t / 1000, with t the network's time: 0 for clean data, 1000 for pure noise.

    The shift moves no time, it says where times are wanted: `at(tau)` is 1000 s tau / (1 + (s - 1) tau), so a shift
    s above 1 spends more of the way at high noise (Esser et al. 2024, 2403.03206, eq. 23).

    shift       s, the same for all sizes
    by_size     s by the size of the picture, in its place: see `for_size`
    time_scale  the network's time of pure noise; diffusers' `num_train_timesteps`
    """

    shift: float = 1.0
    by_size: ShiftBySize | None = None
    time_scale: float = 1000.0

    def __post_init__(self) -> None:
        if not (self.shift > 0 and math.isfinite(self.shift)):
            raise ValueError(f"the shift of a flow must be above 0; got {self.shift}")

    @property
    def is_flow(self) -> bool:
        return True

    @property
    def clean(self) -> float:
        return 0.0

    @property
    def last(self) -> float:
        return float(self.time_scale)

    def alpha(self, t: Time) -> Tensor:
        return 1.0 - self.sigma(t)

    def sigma(self, t: Time) -> Tensor:
        self.check(t)
        return (real(t) / self.time_scale).clamp(0.0, 1.0)

    def at(self, tau: float | Tensor) -> Tensor:
        return self.last * _shifted(real(tau), self._known_shift)

    def tau(self, t: Time) -> Tensor:
        return _shifted(self.sigma(t), 1.0 / self._known_shift)

    def time_of(self, log_snr: float | Tensor) -> Tensor:
        return self.last * torch.sigmoid(-0.5 * real(log_snr))

    def for_size(self, tokens: int) -> RectifiedFlow:
        if self.by_size is None:
            return self
        return dataclasses.replace(self, shift=self.by_size(tokens), by_size=None)

    def to_config(self) -> Flow:
        return {
            "process": "rectified_flow",
            "shift": self.shift,
            "by_size": None if self.by_size is None else self.by_size.to_config(),
            "time_scale": self.time_scale,
        }

    @property
    def _known_shift(self) -> float:
        if self.by_size is not None:
            raise ValueError("the shift of this flow depends on the size of the picture: ask `for_size(tokens)` for it")
        return self.shift


def _shifted(tau: Tensor, shift: float) -> Tensor:
    """s tau / (1 + (s - 1) tau), whose inverse is the shift by 1 / s."""
    return shift * tau / (1.0 + (shift - 1.0) * tau)
