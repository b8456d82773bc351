"""The discrete process of DDPM: a table of (alpha_t, sigma_t) for the integers that a network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewstep.core.schedule import Schedule, Time, finest, real
from fewstep.core.schedule_config import Betas, Table

CLEAN = -1
BETA_KINDS = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True, eq=False)
class DiscreteSchedule(Schedule):
    """The times 0 .. T-1, and -1 for clean data; alpha^2 + sigma^2 = 1. Make one with the `from_...` constructors.

    table   (2, T + 1) float64 on the CPU: alphas, then sigmas; column t + 1 is time t, column 0 clean data
    config  what `to_config` returns

    A whole time reads the table. Between two of them the angle atan2(sigma, alpha) is linear in t. k-diffusion has
    log(sigma / alpha) linear there: on Stable Diffusion's table that is 5e-4 apart in sigma between times 0 and 1, and
    1e-5 from time 19 on. Unlike it, the angle is finite at both ends, at clean data and at pure noise.

    Raises ValueError when an alpha leaves [0, 1], a sigma is not above 0, or alpha / sigma does not fall.
    """

    table: Tensor
    config: Betas | Table = field(repr=False)
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
    ) -> DiscreteSchedule:
        """alpha_t^2 = prod_{i <= t} (1 - beta_i): DDPM (Ho et al. 2020, 2006.11239, eq. 4).

        kind: "linear" (DDPM), "scaled_linear" (linear in sqrt(beta): Stable Diffusion, the defaults) or
        "squaredcos_cap_v2" (Nichol & Dhariwal 2021, 2102.09672, eq. 17; ignores beta_start and beta_end).
        rescale_zero_terminal_snr: make alpha_{T-1} exactly 0 (Lin et al. 2023, 2305.08891, Algorithm 1).
        """
        alphas_cumprod = torch.cumprod(1.0 - _betas(kind, beta_start, beta_end, num_train_timesteps), dim=0)
        if rescale_zero_terminal_snr:
            alphas_cumprod = _rescale_zero_terminal_snr(alphas_cumprod)
        config: Betas = {
            "kind": kind,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "num_train_timesteps": num_train_timesteps,
            "rescale_zero_terminal_snr": rescale_zero_terminal_snr,
        }
        return cls(_variance_preserving(alphas_cumprod), config)

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor) -> DiscreteSchedule:
        """alpha_t^2 given as a table (T,), falling, in [0, 1)."""
        table = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
        if table.ndim != 1:
            raise ValueError(f"alphas_cumprod must have the shape (T,); got {tuple(table.shape)}")
        return cls(_variance_preserving(table), {"alphas_cumprod": table.tolist()})

    def to_config(self) -> Betas | Table:
        return self.config.copy()

    @property
    def num_train_timesteps(self) -> int:
        """T: the times are 0 .. T-1."""
        return self.table.shape[1] - 1

    @property
    def alphas_cumprod(self) -> Tensor:
        """alpha_t^2 for t = 0 .. T-1: (T,) float64 on the CPU, under DDPM's name."""
        return self.table[0, 1:] ** 2

    @property
    def clean(self) -> int:
        return CLEAN

    @property
    def last(self) -> int:
        return self.num_train_timesteps - 1

    def alpha(self, t: Time) -> Tensor:
        return self._row(0, t)

    def sigma(self, t: Time) -> Tensor:
        return self._row(1, t)

    def at(self, tau: float | Tensor) -> Tensor:
        return self.num_train_timesteps * real(tau) - 1.0

    def tau(self, t: Time) -> Tensor:
        return (real(t) + 1.0) / self.num_train_timesteps

    def time_of(self, log_snr: float | Tensor) -> Tensor:
        """As in `Schedule`; the last time, where this table has no such noise."""
        angle = torch.atan(torch.exp(-0.5 * real(log_snr)))
        alphas, sigmas = self._table_on(angle.device)
        angles = torch.atan2(sigmas, alphas)
        below = (torch.searchsorted(angles, angle, right=True) - 1).clamp(max=self.last)
        share = (angle - angles[below]) / (angles[below + 1] - angles[below])
        return below + share.clamp(max=1.0) - 1.0

    def grid(self, num: int) -> Tensor:
        """int64: k i - 1 for i = 1 .. num, with k = T // num."""
        total = self.num_train_timesteps
        if not 1 <= num <= total:
            raise ValueError(f"a grid over {total} times has 1 .. {total} points; got {num}")
        return torch.arange(1, num + 1) * (total // num) - 1

    def before(self, t: Tensor, k: float) -> Tensor:
        return (t - k).clamp(min=self.clean)

    def whole(self, t: float) -> int:
        return math.floor(t)

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64, uniformly."""
        return torch.randint(self.num_train_timesteps, (count,), generator=generator)

    def _row(self, row: int, t: Time) -> Tensor:
        self.check(t)
        if not isinstance(t, Tensor):
            whole = float(t).is_integer()
            return self.table[row, int(t) + 1] if whole else self._between(row, real(t))
        if t.is_floating_point():
            return self._between(row, real(t))
        return self._table_on(t.device)[row][t.long() + 1]

    def _between(self, row: int, t: Tensor) -> Tensor:
        """The table at real times: the numbers themselves at whole ones, the angle's cosine or sine between them."""
        table, t = self._table_on(t.device), t.clamp(self.clean, self.last)
        column = t.floor().long() + 1
        below, above = (
            torch.atan2(*table[:, each].flip(0)) for each in (column, (column + 1).clamp(max=self.last + 1))
        )
        angle = below + (t - t.floor()) * (above - below)
        return torch.where(t == t.floor(), table[row][column], (torch.cos, torch.sin)[row](angle))

    def _table_on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = self.table.to(finest(device)).to(device)
        return self._copies[device]


def _variance_preserving(alphas_cumprod: Tensor) -> Tensor:
    clean = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    return torch.cat([clean, torch.stack([alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt()])], dim=1)


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
