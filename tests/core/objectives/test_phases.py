"""Phases: in the analytic world the right step is the flow itself, which passes through every end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.core.denoise import Denoise
from fewstep.core.objectives.base import Batch, Loss, Networks
from fewstep.core.objectives.ends import Ends, PhaseEnds
from fewstep.core.objectives.phases import Phases
from fewstep.core.samplers.grids import phase_ends
from fewstep.core.samplers.ode import Solver
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import DiscreteSchedule
from oracle import ExactFlow, GaussianWorld

SD = DiscreteSchedule.from_betas()
WORLD = GaussianWorld(SD)
GRID = SD.grid(50)
MU = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)
NO_GUIDANCE = torch.zeros(50, dtype=torch.float64)


def draw(seed: int) -> Tensor:
    return torch.randn(50, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Itself(PhaseEnds):
    def function(self, denoise: Denoise, *_: Any) -> Denoise:
        return denoise


class ByTheExactFlow(Phases):
    def ode(self, schedule: Schedule) -> Solver:
        return ExactFlow(WORLD, NO_GUIDANCE)


class OfAGivenStep(ByTheExactFlow):
    @property
    def ends(self) -> Ends:
        return Itself(self.phases)


def loss_of(objective: Phases, student: Any) -> Loss:
    batch = Batch(MU[:, None] + WORLD.s * draw(1), draw(2), torch.arange(50), MU, WORLD.uncond)  # type: ignore[arg-type]
    return objective.loss(Networks(student, SD, teacher=WORLD.denoise), batch)


@pytest.mark.parametrize("phases", [2, 4])
def test_the_loss_is_zero_for_the_exact_flow_and_not_for_the_bare_estimate(phases: int) -> None:
    ends = phase_ends(SD, phases)
    floor = ends[torch.searchsorted(ends, GRID) - 1]

    def flow(x_t: Tensor, t: Any, cond: Any, w: Any = None) -> Tensor:
        return ExactFlow(WORLD, NO_GUIDANCE).step(None, x_t, t, floor, MU, None)[0]

    assert float(loss_of(OfAGivenStep(phases=phases, k=60, metric="l2"), flow).loss) < 1e-12
    assert float(loss_of(ByTheExactFlow(phases=phases, k=60, metric="l2"), WORLD.denoise).loss) > 1e-5
