"""Latent consistency distillation: one step leads to clean data (LCM, Luo et al. 2023, 2310.04378, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.objectives.base import Batch, Cond, Networks
from fewstep.core.objectives.ends import CleanData, Ends, Times
from fewstep.core.objectives.guided import Distillation
from fewstep.core.objectives.pairs import Pairs
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.ode import Solver
from fewstep.core.schedule import Schedule
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class Consistency(Pairs, Distillation):
    """x_n is where the guided teacher's ODE leads from x_t."""

    name: ClassVar[str] = "consistency"
    targets: ClassVar = {"student": "itself", "ema": "its average"}

    solver: str = setting(
        "ddim", "--solver", f"The teacher's: {', '.join(sorted(SOLVERS))}. [default: ddim]", choices=sorted(SOLVERS)
    )
    """The teacher's step from t to t - k: `ddim`, `dpm++` (2M: second order, wants two substeps) or `heun`. LCM (fig.
    3) holds up at k = 50 with DPM-Solver++ and not with DDIM; no public script offers anything but DDIM."""
    substeps: int = setting(1, "--substeps", "Of the solver, for each target. [default: 1]", low=1)
    """In how many steps of the solver; each costs the teacher's calls."""

    @classmethod
    def fits(cls, target: str, phases: int, trajectory: bool) -> bool:
        return target in cls.targets and phases == 1 and not trajectory

    @property
    def ends(self) -> Ends:
        return CleanData()

    @property
    def advice(self) -> list[str]:
        coarse = self.solver == "dpm++" and self.substeps == 1
        return ["dpm++ is DDIM in its first step: give it 2 substeps or more"] if coarse else []

    def ode(self, schedule: Schedule) -> Solver:
        return SOLVERS[self.solver](schedule)

    def earlier(self, networks: Networks[Cond], batch: Batch[Cond], x_t: Tensor, times: Times) -> Tensor:
        """In `substeps` equal steps; between whole times (int64) the steps are whole as well."""
        guided = networks.guided(batch)
        solver, way = self.ode(networks.schedule), times.t_n - times.t
        rounding = None if way.is_floating_point() else "floor"
        state = solver.init()
        for i in range(self.substeps):
            start, end = (times.t + torch.div(way * j, self.substeps, rounding_mode=rounding) for j in (i, i + 1))
            x_t, state = solver.step(guided, x_t, start, end, batch.cond, state)
        return x_t
