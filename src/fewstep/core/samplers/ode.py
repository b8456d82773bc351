"""Samplers that follow the probability-flow ODE: the contract of one step, and the walk of many.

With lambda = log(alpha / sigma) the exact solution from time t to an earlier time s is (DPM-Solver++, Lu et al. 2022,
2211.01095, prop. 4.1)

    x_s = (sigma_s / sigma_t) x_t + sigma_s int_{lambda_t}^{lambda_s} e^lambda x_0(x_lambda, lambda) dlambda,

and the solvers differ only in what stands for x_0 under the integral. A solver is frozen; what it must remember goes in
and out as a `SolverState`. Guidance and prediction types belong to `denoise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers.base import Draw, Sampler, Step, falling
from fewstep.core.samplers.grids import flow_timesteps, ode_timesteps
from fewstep.core.schedule import Schedule, Time


@dataclass(frozen=True, eq=False)
class SolverState:
    """The last estimate of x_0 and the log-SNR of the time at which it was made."""

    x0: Tensor
    log_snr: Tensor


class Solver(Protocol):
    """`order`: the global error falls as (step size)^order."""

    order: ClassVar[int]

    @property
    def schedule(self) -> Schedule: ...

    def init(self) -> SolverState | None:
        """The state before the first step."""
        ...

    def step(
        self, denoise: Denoise[Cond], x_t: Tensor, t: Time, s: Time, cond: Cond, state: SolverState | None
    ) -> tuple[Tensor, SolverState]:
        """x_t (B, ...) at t to x_s at s <= t, in float32 at least. Times: numbers or (B,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ODESampler(Sampler):
    """Takes the steps of a solver over the times of a diffusion model; draws no noise.

    solver     makes one for a schedule
    calls      how often it asks the network in a step
    multistep  whether its times are laid out as diffusers' multistep schedulers do it (`grids.ode_timesteps`)
    """

    solver: Callable[[Schedule], Solver]
    calls: int = 1
    multistep: bool = False

    def accepts(self, profile: SamplingProfile) -> bool:
        return profile.kind == "diffusion"

    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        if profile.is_flow:
            return flow_timesteps(profile.schedule, num_steps, strength, spacing=profile.spacing)
        return ode_timesteps(
            profile.schedule,
            num_steps,
            strength,
            spacing=profile.spacing.kind,
            steps_offset=profile.spacing.offset,
            multistep=self.multistep,
        )

    def least_steps(self, strength: float) -> int:
        """A part of the steps is taken, of which one must be left."""
        return math.ceil(1 / strength)

    def walk(
        self,
        denoise: Denoise[Cond],
        profile: SamplingProfile,
        x_T: Tensor,
        times: Sequence[float] | Tensor,
        cond: Cond,
        w: float | Tensor | None,
        draw: Draw,
    ) -> Iterator[Step]:
        solver = self.solver(profile.schedule)
        return sample_ode(solver, denoise, x_T, times, cond, final_timestep=self.end(profile))

    def end(self, profile: SamplingProfile) -> float | None:
        """The time that the last step goes to; None for clean data."""
        return None


def sample_ode(
    solver: Solver,
    denoise: Denoise[Cond],
    x_T: Tensor,
    timesteps: Sequence[float] | Tensor,
    cond: Cond,
    *,
    final_timestep: float | None = None,
) -> Iterator[Step]:
    """Follow the probability flow from timesteps[0] through the others to `final_timestep`; draws no noise.

    final_timestep: None ends on clean data; 0, at the first time of a table (`set_alpha_to_one=False` in diffusers).
    Raises ValueError for times that do not fall, or that end below `final_timestep`.
    """
    times = falling(timesteps, solver.schedule)
    final_timestep = solver.schedule.clean if final_timestep is None else final_timestep
    if final_timestep > times[-1]:
        raise ValueError(f"final_timestep {final_timestep} lies above the last timestep, {times[-1]}")
    x_t, state = x_T, solver.init()
    for index, (t, s) in enumerate(pairwise([*times, final_timestep])):
        x_t, state = solver.step(denoise, x_t, t, s, cond, state)
        yield Step(index, len(times), s, x_t, state.x0)
