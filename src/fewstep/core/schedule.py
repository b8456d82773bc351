"""The contract of a noise schedule: t -> (alpha_t, sigma_t) of the forward process x_t = alpha_t x_0 + sigma_t eps.

Times are real numbers, in the unit that the network is given. `fewstep.core.schedules` holds the schedules themselves.
All arithmetic here is float64 (float32 on Apple's MPS).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fewstep.core.schedule_config import ScheduleConfig

Time = float | Tensor

SLACK = 1e-5  # of the last time: what a time in float32 may lie beyond it


def broadcast(coefficient: float | Tensor, x: Tensor) -> Tensor:
    """A scalar or one value per sample (B,), made to multiply x (B, ...): of its rank, device and dtype.

    The dtype is x's, but never less than float32, so the product with a half-precision x is float32.
    """
    value = coefficient if isinstance(coefficient, Tensor) else torch.tensor(coefficient, dtype=torch.float64)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return value.to(dtype).to(x.device).reshape(-1, *(1,) * (x.ndim - 1))


def finest(device: torch.device) -> torch.dtype:
    """The dtype of schedule arithmetic: float64, or float32 on Apple's MPS, which has nothing finer."""
    return torch.float32 if device.type == "mps" else torch.float64


def real(value: float | Tensor) -> Tensor:
    """A number or a tensor in the dtype of schedule arithmetic, on its own device."""
    if isinstance(value, Tensor):
        return value.to(finest(value.device))
    return torch.tensor(value, dtype=torch.float64)


class Schedule(ABC):
    """A process x_t = alpha_t x_0 + sigma_t eps with eps ~ N(0, I), over the times from clean data to noise.

    alpha / sigma falls with t. A time is a number, or a tensor with one time per sample. Functions of it return
    tensors of its shape and device.
    """

    @property
    @abstractmethod
    def clean(self) -> float:
        """The time of clean data: alpha 1, sigma 0. It is the smallest time."""

    @property
    @abstractmethod
    def last(self) -> float:
        """The time of the most noise. It is the largest time."""

    @property
    def is_flow(self) -> bool:
        """Whether it is a rectified flow, from x_0 to eps on a straight line."""
        return False

    @property
    def num_train_timesteps(self) -> int:
        """T, of which intervals such as LCM's k are counted: the times of a table, and 1000 where there is none."""
        return 1000

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """The share of x_0 in x_t.

        Raises ValueError outside clean .. last (tensors off the CPU are not looked at: that stalls the device).
        """

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """The deviation of the noise in x_t; raises as `alpha`."""

    @abstractmethod
    def at(self, tau: float | Tensor) -> Tensor:
        """The time that lies tau of the way from clean data (0) to the last time (1), as the model spreads its times.

        Raises ValueError where that depends on the size of the picture (`for_size`).
        """

    @abstractmethod
    def tau(self, t: Time) -> Tensor:
        """How much of the way from clean data lies below t, in [0, 1]: the inverse of `at`."""

    @abstractmethod
    def time_of(self, log_snr: float | Tensor) -> Tensor:
        """The time at which the log-SNR is this: the inverse of `log_snr`, of plus and minus infinity too."""

    @abstractmethod
    def to_config(self) -> ScheduleConfig:
        """JSON types that `schedules.from_config` turns into the same schedule, to the last bit."""

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha_t^2 / sigma_t^2), twice DPM-Solver's lambda_t: +inf for clean data, -inf where alpha is 0."""
        return 2.0 * torch.log(self.alpha(t) / self.sigma(t))

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Time) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t noise, in float32 at least (DDPM, 2006.11239, eq. 4). t: a number or (B,)."""
        return broadcast(self.alpha(t), x_0) * x_0 + broadcast(self.sigma(t), x_0) * noise

    def transfer(self, x_t: Tensor, x_0: Tensor, t: Time, s: Time) -> Tensor:
        """x_s = alpha_s x_0 + sigma_s eps, with the eps that x_t and x_0 imply: exact for a constant x_0.

        s <= t; from clean data, which implies no eps, to clean data it is x_t itself.
        """
        alpha_t, sigma_t = self.alpha(t), self.sigma(t)
        ratio = self.sigma(s) / sigma_t
        ratio = torch.where(ratio.isnan(), 1.0, ratio)
        return broadcast(ratio, x_t) * x_t + broadcast(self.alpha(s) - ratio * alpha_t, x_t) * x_0

    def grid(self, num: int) -> Tensor:
        """(num,) times, rising, that lie evenly between clean data and the last time, which is one of them.

        Raises ValueError for fewer than one, or more than a table has.
        """
        if num < 1:
            raise ValueError(f"a grid of times has 1 point or more; got {num}")
        return self.at(torch.arange(1, num + 1, dtype=torch.float64) / num)

    def before(self, t: Tensor, k: float) -> Tensor:
        """The times (B,) that lie k / T of the way before t, T being `num_train_timesteps`; at least clean data."""
        return self.at((self.tau(t) - k / self.num_train_timesteps).clamp(min=0.0))

    def whole(self, t: float) -> float:
        """The latest time at or below t that the network was trained on: t itself, where times are continuous."""
        return t

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) times to train at, uniformly spread over `tau`."""
        return self.at(torch.rand(count, generator=generator, dtype=torch.float64))

    def for_size(self, tokens: int) -> Schedule:
        """The schedule of pictures of so many tokens (patches of latents); itself, but where the shift asks for it."""
        return self

    def check(self, t: Time) -> None:
        """Raise ValueError for a time outside clean .. last, where that can be seen without stalling a device."""
        if not isinstance(t, Tensor):
            low = high = float(t)
        elif t.device.type != "cpu" or t.numel() == 0:
            return
        else:
            low, high = float(t.min()), float(t.max())
        slack = SLACK * self.last
        if not (low >= self.clean - slack and high <= self.last + slack):
            wrong = high if high > self.last else low
            raise ValueError(f"t = {wrong:g} is outside the schedule: {self.clean:g} (clean data) .. {self.last:g}")
