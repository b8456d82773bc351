"""The noise schedule t -> (alpha_t, sigma_t).

The forward process is x_t = alpha_t x_0 + sigma_t eps with eps ~ N(0, I). Times are the integers 0 .. T-1
that a network was trained on; t = -1 is clean data (alpha 1, sigma 0). All arithmetic here is float64.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Time = int | Tensor

CLEAN = -1
BETA_KINDS = ("linear", "scaled_linear", "squaredcos_cap_v2")


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


@dataclass(frozen=True, eq=False)
class Schedule:
    """A table of (alpha_t, sigma_t); make one with the `from_...` constructors.

    table   (2, T + 1) float64 on the CPU: alphas, then sigmas; column t + 1 is time t, column 0 clean data
    config  what `to_config` returns; JSON types only

    Raises ValueError when an alpha leaves [0, 1], a sigma is not above 0, or alpha / sigma does not fall.
    """

    table: Tensor
    config: Mapping[str, Any] = field(repr=False)
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        alphas, sigmas = self.table[:, 1:]
        if alphas.numel() == 0:
            raise ValueError("a schedule needs at least one time; the table is empty")
        if not bool(((alphas >= 0) & (alphas <= 1)).all()):
            raise ValueError(f"alphas must lie in [0, 1]; got {alphas.min():.6g} .. {alphas.max():.6g}")
        if not bool(((sigmas > 0) & sigmas.isfinite()).all()):
            raise ValueError("sigmas must be above 0 at every time; only t = -1 is clean data")
        if not bool(((alphas / sigmas).diff() < 0).all()):
            raise ValueError("alpha / sigma must fall from one time to the next: noise grows with t")

    @classmethod
    def from_betas(
        cls,
        kind: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        num_train_timesteps: int = 1000,
        rescale_zero_terminal_snr: bool = False,
    ) -> Schedule:
        """alpha_t^2 = prod_{i <= t} (1 - beta_i): DDPM (Ho et al. 2020, 2006.11239, eq. 4).

        kind: "linear" (DDPM), "scaled_linear" (linear in sqrt(beta): Stable Diffusion, the defaults) or
        "squaredcos_cap_v2" (Nichol & Dhariwal 2021, 2102.09672, eq. 17; ignores beta_start and beta_end).
        rescale_zero_terminal_snr: make alpha_{T-1} exactly 0 (Lin et al. 2023, 2305.08891, Algorithm 1).
        """
        alphas_cumprod = torch.cumprod(1.0 - _betas(kind, beta_start, beta_end, num_train_timesteps), dim=0)
        if rescale_zero_terminal_snr:
            alphas_cumprod = _rescale_zero_terminal_snr(alphas_cumprod)
        config = {
            "kind": kind,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "num_train_timesteps": num_train_timesteps,
            "rescale_zero_terminal_snr": rescale_zero_terminal_snr,
        }
        return cls(_variance_preserving(alphas_cumprod), config)

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor) -> Schedule:
        """alpha_t^2 given as a table (T,), falling, in [0, 1)."""
        table = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
        if table.ndim != 1:
            raise ValueError(f"alphas_cumprod must have the shape (T,); got {tuple(table.shape)}")
        return cls(_variance_preserving(table), {"alphas_cumprod": table.tolist()})

    @classmethod
    def from_functions(
        cls,
        alpha: Callable[[Tensor], Tensor],
        sigma: Callable[[Tensor], Tensor],
        num_train_timesteps: int = 1000,
    ) -> Schedule:
        """alpha and sigma as functions of tau = (t + 1) / T in [0, 1]: 0 is clean data, 1 the last time.

        Flow matching is `Schedule.from_functions(lambda tau: 1 - tau, lambda tau: tau)`.
        """
        tau = torch.arange(1, num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
        return cls._from_rows(alpha(tau), sigma(tau))

    @classmethod
    def _from_rows(cls, alphas: Tensor, sigmas: Tensor) -> Schedule:
        config = {"alphas": alphas.tolist(), "sigmas": sigmas.tolist()}
        return cls(_with_clean_data(alphas, sigmas), config)

    def to_config(self) -> dict[str, Any]:
        """JSON types that `from_config` turns into the same table, to the last bit."""
        return dict(self.config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """The inverse of `to_config`. Raises ValueError for a dictionary that it did not write."""
        match sorted(config):
            case ["beta_end", "beta_start", "kind", "num_train_timesteps", "rescale_zero_terminal_snr"]:
                return cls.from_betas(**config)
            case ["alphas_cumprod"]:
                return cls.from_alphas_cumprod(torch.tensor(config["alphas_cumprod"], dtype=torch.float64))
            case ["alphas", "sigmas"]:
                alphas, sigmas = torch.tensor([config["alphas"], config["sigmas"]], dtype=torch.float64)
                return cls._from_rows(alphas, sigmas)
            case keys:
                raise ValueError(
                    "a schedule's config holds the arguments of `from_betas`, or 'alphas_cumprod', or "
                    f"'alphas' and 'sigmas'; got the keys {keys}"
                )

    @property
    def num_train_timesteps(self) -> int:
        """T: the times are 0 .. T-1."""
        return self.table.shape[1] - 1

    @property
    def alphas_cumprod(self) -> Tensor:
        """alpha_t^2 for t = 0 .. T-1: (T,) float64 on the CPU, under DDPM's name."""
        return self.table[0, 1:] ** 2

    def alpha(self, t: Time) -> Tensor:
        """alpha_t for an int (shape ()) or an integer tensor (its shape and device); float64 but on MPS.

        Raises ValueError outside -1 .. T-1 (tensors off the CPU are not looked at: that stalls the device).
        """
        return self._row(0, t)

    def sigma(self, t: Time) -> Tensor:
        """sigma_t; as `alpha`."""
        return self._row(1, t)

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha_t^2 / sigma_t^2), twice DPM-Solver's lambda_t: +inf at t = -1, -inf where alpha is 0."""
        return 2.0 * torch.log(self.alpha(t) / self.sigma(t))

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Time) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t noise, in float32 at least (DDPM eq. 4). t: int or (B,)."""
        return broadcast(self.alpha(t), x_0) * x_0 + broadcast(self.sigma(t), x_0) * noise

    def transfer(self, x_t: Tensor, x_0: Tensor, t: Time, s: Time) -> Tensor:
        """x_s = alpha_s x_0 + sigma_s eps, with the eps that x_t and x_0 imply: exact for a constant x_0."""
        alpha_t, sigma_t = self.alpha(t), self.sigma(t)
        ratio = self.sigma(s) / sigma_t
        return broadcast(ratio, x_t) * x_t + broadcast(self.alpha(s) - ratio * alpha_t, x_t) * x_0

    def _row(self, row: int, t: Time) -> Tensor:
        self._check(t)
        if isinstance(t, Tensor):
            return self._table_on(t.device)[row][t.long() + 1]
        return self.table[row, t + 1]

    def _check(self, t: Time) -> None:
        if not isinstance(t, Tensor):
            low = high = operator.index(t)
        elif t.is_floating_point():
            raise ValueError(f"times are integers in [-1, {self.num_train_timesteps - 1}]; got a {t.dtype} tensor")
        elif t.device.type != "cpu" or t.numel() == 0:
            return
        else:
            low, high = int(t.min()), int(t.max())
        if low < CLEAN or high >= self.num_train_timesteps:
            wrong = low if low < CLEAN else high
            raise ValueError(f"t = {wrong} is outside the schedule: -1 (clean data) .. {self.num_train_timesteps - 1}")

    def _table_on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = self.table.to(finest(device)).to(device)
        return self._copies[device]


def _with_clean_data(alphas: Tensor, sigmas: Tensor) -> Tensor:
    clean = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    return torch.cat([clean, torch.stack([alphas, sigmas])], dim=1)


def _variance_preserving(alphas_cumprod: Tensor) -> Tensor:
    return _with_clean_data(alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt())


def _betas(kind: str, start: float, end: float, num: int) -> Tensor:
    if kind == "linear":
        return torch.linspace(start, end, num, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, num, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        tau = torch.arange(num + 1, dtype=torch.float64) / num
        alphas_cumprod = torch.cos((tau + 0.008) / 1.008 * (math.pi / 2)) ** 2
        return (1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)
    raise ValueError(f"unknown kind of betas {kind!r}; allowed are {', '.join(BETA_KINDS)}")


def _rescale_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    alphas = alphas_cumprod.sqrt()
    first, last = alphas[0], alphas[-1]
    return ((alphas - last) * first / (first - last)) ** 2
