"""The one contract, `denoise(x_t, t, cond, w) -> x_0`, and how a network keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from fewstep.core.prediction import EPSILON, Prediction
from fewstep.core.schedule import Schedule, Time, broadcast, finest

Cond = TypeVar("Cond")  # what a network is conditioned on, one row per sample: core passes it through
Cond_contra = TypeVar("Cond_contra", contravariant=True)
Network = Callable[[Tensor, Tensor, Cond, Tensor | None], Tensor]


class Denoise(Protocol[Cond_contra]):
    """The one contract: an estimate of x_0 (B, ...) from x_t (B, ...).

    t: a number or (B,). cond: what the network wants; core never looks at it.
    w: the guidance that a distilled network is to imitate, a number or (B,); None for one without that input.
    """

    def __call__(self, x_t: Tensor, t: Time, cond: Cond_contra, w: float | Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Toward(Protocol[Cond_contra]):
    """A denoiser whose network is also told where the step ends: a flow map's u(z_t, t, r) (2605.13724)."""

    def toward(self, r: Time) -> Denoise[Cond_contra]:
        """Asked about steps that end at r, a number or (B,), at or below every t."""
        ...


def toward(denoise: Denoise[Cond], r: Time) -> Denoise[Cond]:
    """The denoiser of steps that end at r: itself, where its network does not read that (TCD, 2402.19159)."""
    return denoise.toward(r) if isinstance(denoise, Toward) else denoise


@dataclass(frozen=True, eq=False)
class Denoiser(Generic[Cond]):
    """A network as a `Denoise`: `denoise(x_t, t, cond, w) -> x_0` in float32 at least.

    network     (x_t, t (B,), cond, w (B,) float32 or None) -> raw output; rounds its own inputs. t is int64 for whole
                numbers, and as fine as the schedule's arithmetic otherwise
    prediction  what the raw output is

    Raises ValueError for a prediction that loses x_0 at the last time: epsilon on a schedule that ends in pure noise.
    """

    network: Network[Cond]
    schedule: Schedule
    prediction: Prediction = EPSILON

    def __post_init__(self) -> None:
        last = self.schedule.last
        self.prediction.check(self.schedule.alpha(last), self.schedule.sigma(last))

    def output(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        """The network's raw output, with t and w given as one value per sample."""
        whole = torch.int64 if isinstance(t, int) else finest(x_t.device)
        times = t.to(x_t.device) if isinstance(t, Tensor) else torch.tensor(t, dtype=whole, device=x_t.device)
        scales = None if w is None else torch.as_tensor(w, device=x_t.device, dtype=torch.float32).expand(len(x_t))
        return self.network(x_t, times.expand(len(x_t)), cond, scales)

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        output = self.output(x_t, t, cond, w)
        return self.prediction.x0(output, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


@dataclass(frozen=True, eq=False)
class Reparametrised(Generic[Cond]):
    """A `Denoise` of one process, asked at the samples and times of another; no retraining, and exact.

    Where two processes have the same log-SNR their x_t differ by a factor alone, and x_0 is x_0 in both. A rectified
    flow seen from TrigFlow, for one: t = atan(sigma / (1 - sigma)), x = z / sqrt((1 - sigma)^2 + sigma^2), which is
    how SANA-Sprint came about (2503.09641, sec. 3.1).

    denoise, own  what is asked in the end, and its process
    schedule      the process of those who ask
    """

    denoise: Denoise[Cond]
    own: Schedule
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        own_t = self.own.time_of(self.schedule.log_snr(t))
        factor = _length(self.own, own_t) / _length(self.schedule, t)
        return self.denoise(broadcast(factor, x_t) * x_t, own_t, cond, w)


def _length(schedule: Schedule, t: Time) -> Tensor:
    """sqrt(alpha^2 + sigma^2)."""
    return torch.hypot(schedule.alpha(t), schedule.sigma(t))
