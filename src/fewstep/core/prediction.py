"""What a network says and what it means: eps, v and x_0 are three names for one prediction at a known x_t.

With x_t = alpha x_0 + sigma eps and v = alpha eps - sigma x_0 (Salimans & Ho 2022, 2202.00512, app. D), any
of the three follows from any other. `alpha` and `sigma` are scalars or (B,), in float64 until they meet x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fewstep.core.schedule import Schedule, Time, broadcast

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")

Network = Callable[[Tensor, Tensor, Any, Tensor | None], Tensor]


class Denoise(Protocol):
    """The one contract: an estimate of x_0 (B, ...) from x_t (B, ...).

    t: an int or (B,) int64. cond: whatever the network wants; core never looks at it.
    w: the guidance that a distilled network is to imitate, a number or (B,); None for one without that input.
    """

    def __call__(self, x_t: Tensor, t: Time, cond: Any, w: float | Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network as a `Denoise`: `denoise(x_t, t, cond, w) -> x_0` in float32 at least.

    network          (x_t, t (B,) int64, cond, w (B,) float32 or None) -> raw output; rounds its own inputs
    prediction_type  what the raw output is: "epsilon", "v_prediction" or "sample"

    Raises ValueError for an unknown prediction type, and for "epsilon" on a schedule where some alpha is 0.
    """

    network: Network
    schedule: Schedule
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(_unknown(self.prediction_type))
        if self.prediction_type == "epsilon":
            _require_nonzero(self.schedule.alphas_cumprod, _NO_SIGNAL)

    def output(self, x_t: Tensor, t: Time, cond: Any, w: float | Tensor | None = None) -> Tensor:
        """The network's raw output, with t and w given as one value per sample."""
        times = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        scales = None if w is None else torch.as_tensor(w, device=x_t.device, dtype=torch.float32).expand(len(x_t))
        return self.network(x_t, times, cond, scales)

    def __call__(self, x_t: Tensor, t: Time, cond: Any, w: float | Tensor | None = None) -> Tensor:
        output = self.output(x_t, t, cond, w)
        return predict_x0(self.prediction_type, output, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def predict_x0(kind: str, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 from an output: (x_t - sigma eps) / alpha, (alpha x_t - sigma v) / (alpha^2 + sigma^2), or itself.

    alpha^2 + sigma^2 is 1 for variance-preserving schedules. Raises ValueError for eps where alpha is 0.
    """
    if kind == "epsilon":
        _require_nonzero(alpha, _NO_SIGNAL)
        return broadcast(1.0 / alpha, x_t) * x_t - broadcast(sigma / alpha, x_t) * output
    if kind == "v_prediction":
        norm = alpha**2 + sigma**2
        return broadcast(alpha / norm, x_t) * x_t - broadcast(sigma / norm, x_t) * output
    if kind == "sample":
        return broadcast(1.0, x_t) * output
    raise ValueError(_unknown(kind))


def predict_eps(kind: str, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps from an output: itself, (sigma x_t + alpha v) / (alpha^2 + sigma^2), or (x_t - alpha x_0) / sigma.

    Raises ValueError for x_0 where sigma is 0: clean data holds no noise to recover.
    """
    if kind == "epsilon":
        return broadcast(1.0, x_t) * output
    if kind == "v_prediction":
        norm = alpha**2 + sigma**2
        return broadcast(sigma / norm, x_t) * x_t + broadcast(alpha / norm, x_t) * output
    if kind == "sample":
        _require_nonzero(sigma, _NO_NOISE)
        return broadcast(1.0 / sigma, x_t) * x_t - broadcast(alpha / sigma, x_t) * output
    raise ValueError(_unknown(kind))


def predict_v(kind: str, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha eps - sigma x_0 from a raw output; raises as `predict_x0` and `predict_eps` do."""
    if kind == "v_prediction":
        return broadcast(1.0, x_t) * output
    eps = predict_eps(kind, output, x_t, alpha, sigma)
    return broadcast(alpha, x_t) * eps - broadcast(sigma, x_t) * predict_x0(kind, output, x_t, alpha, sigma)


def training_target(kind: str, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of this kind should say for x_t = alpha x_0 + sigma noise: noise, v or x_0."""
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return broadcast(alpha, x_0) * noise - broadcast(sigma, x_0) * x_0
    if kind == "sample":
        return x_0
    raise ValueError(_unknown(kind))


_NO_SIGNAL = (
    "epsilon prediction cannot recover x_0 where alpha is 0 (the last time of a zero-terminal-SNR schedule): "
    "x_t is pure noise there. Use a v_prediction or sample model, or a schedule without that rescale"
)
_NO_NOISE = "a sample (x_0) prediction cannot recover eps where sigma is 0 (t = -1): clean data holds no noise"


def _require_nonzero(coefficient: Tensor, message: str) -> None:
    """Looks at values on the CPU only: elsewhere it would stall the device, and `Denoiser` has looked."""
    if coefficient.device.type == "cpu" and bool((coefficient == 0).any()):
        raise ValueError(message)


def _unknown(kind: str) -> str:
    return f"unknown prediction type {kind!r}; allowed are {', '.join(PREDICTION_TYPES)}"
