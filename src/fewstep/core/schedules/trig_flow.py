"""TrigFlow (sCM: Lu & Song 2024, 2410.11081): the process whose time is the angle between data and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.core.schedule import Schedule, Time, real
from fewstep.core.schedule_config import Trig


@dataclass(frozen=True)
class TrigFlow(Schedule):
    """alpha = cos t and sigma = sigma_data sin t, for t from 0 (clean data) to pi / 2 (pure noise).

    sigma_data  the deviation of the data, and so of x_t at every time: pure noise has it too. Latents that are scaled
                to the deviation 1 have 1 (SANA-Sprint divides its samples by sigma_data, which comes to the same)
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if not (self.sigma_data > 0 and math.isfinite(self.sigma_data)):
            raise ValueError(f"sigma_data must be above 0; got {self.sigma_data}")

    @property
    def clean(self) -> float:
        return 0.0

    @property
    def last(self) -> float:
        return math.pi / 2

    def alpha(self, t: Time) -> Tensor:
        """cos t, by way of the sine, which makes it exactly 0 at the last time."""
        self.check(t)
        return torch.sin(self.last - real(t)).clamp(min=0.0)

    def sigma(self, t: Time) -> Tensor:
        self.check(t)
        return self.sigma_data * torch.sin(real(t)).clamp(min=0.0)

    def at(self, tau: float | Tensor) -> Tensor:
        return self.last * real(tau)

    def tau(self, t: Time) -> Tensor:
        return real(t) / self.last

    def time_of(self, log_snr: float | Tensor) -> Tensor:
        return torch.atan(torch.exp(-0.5 * real(log_snr)) / self.sigma_data)

    def to_config(self) -> Trig:
        return {"process": "trigflow", "sigma_data": self.sigma_data}
