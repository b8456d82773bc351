"""One step of the probability-flow ODE, from time t to an earlier time s.

With lambda = log(alpha / sigma) its exact solution is (DPM-Solver++, Lu et al. 2022, 2211.01095, prop. 4.1)

    x_s = (sigma_s / sigma_t) x_t + sigma_s int_{lambda_t}^{lambda_s} e^lambda x_0(x_lambda, lambda) dlambda,

and the solvers differ only in what stands for x_0 under the integral. A solver is frozen; what it must
remember goes in and out as a `SolverState`. Guidance and prediction types belong to `denoise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fewstep.core.prediction import Denoise
from fewstep.core.schedule import CLEAN, Schedule, Time, broadcast


@dataclass(frozen=True, eq=False)
class SolverState:
    """The last estimate of x_0 and the log-SNR of the time at which it was made."""

    x0: Tensor
    log_snr: Tensor


class Solver(Protocol):
    """`order`: the global error falls as (step size)^order."""

    order: ClassVar[int]

    def init(self) -> SolverState | None:
        """The state before the first step."""
        ...

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        """x_t (B, ...) at t to x_s at s <= t, in float32 at least. Times: ints or (B,); -1 is clean data."""
        ...


@dataclass(frozen=True, eq=False)
class DDIM:
    """Holds x_0 constant over the step (Song et al. 2021, 2010.02502, eq. 12 with eta = 0). First order."""

    schedule: Schedule
    order: ClassVar[int] = 1

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        x0 = denoise(x_t, t, cond)
        return transfer(self.schedule, x_t, x0, t, s), SolverState(x0, self.schedule.log_snr(t))


@dataclass(frozen=True, eq=False)
class DPMSolverPP2M:
    """Extends x_0 along the line through this step's estimate and the last one's (2211.01095, Algorithm 2).

    Second order at one call a step. The first step and the one to clean data (infinite lambda) are DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 2

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        log_snr_t, log_snr_s = self.schedule.log_snr(t), self.schedule.log_snr(s)
        x0 = mean = denoise(x_t, t, cond)
        if state is not None:
            half_ratio = 0.5 * (log_snr_s - log_snr_t) / (log_snr_t - state.log_snr)  # h_i / (2 h_{i-1})
            half_ratio = torch.where(half_ratio.isfinite(), half_ratio, 0.0)
            mean = x0 + broadcast(half_ratio, x0) * (x0 - state.x0)
        return transfer(self.schedule, x_t, mean, t, s), SolverState(x0, log_snr_t)


@dataclass(frozen=True, eq=False)
class Heun:
    """Takes DDIM's step, asks again at its end, and steps once more with both answers: a trapezoidal rule.

    Karras et al. (2022, 2206.00364, Algorithm 1) take the mean of eps, the rule over sigma / alpha; it has no value at
    pure noise. The mean of x_0 is the rule over u = alpha / sigma; it is poor near clean data. Here it is the former
    where u > 1 and the latter where u < 1: x_0 + max(u_s, 1) / max(u_t, 1) (x_0' - x_0) / 2, with x_0' the answer at s.
    Second order at two calls a step; the step to clean data is DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 2

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        x_s, first = DDIM(self.schedule).step(denoise, x_t, t, s, cond, state)
        if not isinstance(s, Tensor) and s == CLEAN:
            return x_s, first
        u_t, u_s = (self.schedule.alpha(time) / self.schedule.sigma(time) for time in (t, s))
        weight = 0.5 * u_s.clamp(min=1) / u_t.clamp(min=1)
        weight = torch.where(weight.isfinite(), weight, 0.0)
        mean = first.x0 + broadcast(weight, x_t) * (denoise(x_s, s, cond) - first.x0)
        return transfer(self.schedule, x_t, mean, t, s), SolverState(mean, first.log_snr)


@dataclass(frozen=True, eq=False)
class UniPCState(SolverState):
    """Also what the corrector returns to: the sample of that time, the time, and the estimate before."""

    x_t: Tensor
    t: Time
    before: SolverState | None


@dataclass(frozen=True, eq=False)
class UniPC:
    """Predicts as DPM-Solver++(2M) does, and with the next answer corrects what it predicted (UniPC, Zhao et al. 2023,
    2302.04867, Algorithms 5 and 6, with B_2(h) = e^h - 1 and order 2).

    One call a step: the answer at the predicted sample serves its correction and the next prediction. The first step
    and the one to clean data are DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 3  # of the corrected samples, which are what the next step departs from

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Time, s: Time, cond: Any, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        x0 = denoise(x_t, t, cond)
        log_snr = self.schedule.log_snr(t)
        if isinstance(state, UniPCState):
            x_t = self._corrected(x0, log_snr, t, state)
        predictor = DPMSolverPP2M(self.schedule)
        x_s, _ = predictor.step(lambda *_: x0, x_t, t, s, cond, state)
        return x_s, UniPCState(x0, log_snr, x_t, t, None if state is None else SolverState(state.x0, state.log_snr))

    def _corrected(self, x0: Tensor, log_snr: Tensor, t: Time, last: UniPCState) -> Tensor:
        """The sample at t again, from the last one, with the answer at t beside those at the last time and before.

        The weights make the formula exact for x_0 that are polynomials of lambda of degree 1, or 2 with three answers.
        """
        h = 0.5 * (log_snr - last.log_snr)
        first = 1.0 / -h - 1.0 / torch.expm1(-h)  # b_1 of the paper's linear system, in h_phi / B(h)
        second = 2.0 * (first / -h) - 1.0 / torch.expm1(-h)
        new, mean = torch.full_like(first, 0.5), last.x0
        if last.before is not None:
            ratio = 0.5 * (last.before.log_snr - last.log_snr) / h
            old = (first - second) / (1.0 - ratio)
            usable = old.isfinite() & (ratio != 0)
            new = torch.where(usable, first - old, new)
            old = torch.where(usable, old / ratio, 0.0)
            mean = mean + broadcast(old, x0) * (last.before.x0 - last.x0)
        mean = mean + broadcast(new, x0) * (x0 - last.x0)
        return transfer(self.schedule, last.x_t, mean, last.t, t)


def transfer(schedule: Schedule, x_t: Tensor, x0: Tensor, t: Time, s: Time) -> Tensor:
    """x_s = alpha_s x_0 + sigma_s eps, with the eps that x_t and x_0 imply: exact for a constant x_0."""
    alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
    ratio = schedule.sigma(s) / sigma_t
    return broadcast(ratio, x_t) * x_t + broadcast(schedule.alpha(s) - ratio * alpha_t, x_t) * x0


SOLVERS: dict[str, type[DDIM] | type[DPMSolverPP2M] | type[Heun] | type[UniPC]] = {
    "ddim": DDIM,
    "dpm++": DPMSolverPP2M,
    "heun": Heun,
    "unipc": UniPC,
}
