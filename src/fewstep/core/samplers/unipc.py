"""UniPC (Zhao et al. 2023, 2302.04867): predicts, and with the next answer corrects what it predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.samplers.dpmpp import DPMSolverPP2M
from fewstep.core.samplers.ode import ODESampler, SolverState
from fewstep.core.schedule import Schedule, Time, broadcast


@dataclass(frozen=True, eq=False)
class UniPCState(SolverState):
    """Also what the corrector returns to: the sample of that time, the time, and the estimate before."""

    x_t: Tensor
    t: Time
    before: SolverState | None


@dataclass(frozen=True, eq=False)
class UniPC:
    """Predicts as DPM-Solver++(2M) does, and with the next answer corrects what it predicted (Algorithms 5 and 6, with
    B_2(h) = e^h - 1 and order 2).

    One call a step: the answer at the predicted sample serves its correction and the next prediction. The first step
    and the one to clean data are DDIM's.
    """

    schedule: Schedule
    order: ClassVar[int] = 3  # of the corrected samples, which are what the next step departs from

    def init(self) -> None:
        return None

    def step(
        self, denoise: Denoise[Cond], x_t: Tensor, t: Time, s: Time, cond: Cond, state: SolverState | None
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
        return self.schedule.transfer(last.x_t, mean, last.t, t)


SAMPLER = ODESampler(
    name="unipc",
    about="predicts and corrects, third order at one network call a step (diffusion models)",
    rank=10,
    scheduler="UniPCMultistepScheduler",
    solver=UniPC,
)
