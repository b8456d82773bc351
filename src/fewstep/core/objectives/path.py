"""Distillation whose targets are solved, not learnt: whole paths of the guided teacher, from pure noise to a picture.

Ordinary distillation asks the student itself for its targets, so what it knows travels from clean data to pure noise
in many small generations, which a run of minutes does not reach. Here the teacher walks all the way, and from every
state on its path one step of the student must lead to where the teacher left the phase (PCM, 2405.18407, with the
target solved for). No picture is needed, only captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, TrajectoryFunction
from fewstep.core.denoise import Denoise
from fewstep.core.objectives.base import Batch, Cond, Data, Draw, Loss, Networks, compared
from fewstep.core.objectives.guided import Distillation
from fewstep.core.objectives.metrics import METRICS
from fewstep.core.objectives.phases import at_most_the_grid
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.grids import phase_ends
from fewstep.core.schedule import Schedule
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class Path(Distillation):
    """Each of a batch's paths gives `phases` x `substeps` states, at times of its own."""

    name: ClassVar[str] = "path"
    targets: ClassVar = {"path": "whole paths of the teacher"}
    cost: ClassVar[int] = 10  # 12 steps of 5 calls of the network, against 6
    refuses: ClassVar = {
        "k": "k says where a target is asked, and target='path' walks there: leave k out",
        "trajectory": "target='path' learns the ends of phases and no trajectory: set phases, or trajectory",
    }

    phases: int = setting(4, low=1)
    """Where the student's steps end; with one, at the picture, which a single jump cannot reach sharply."""
    solver: str = setting("dpm++", choices=sorted(SOLVERS))
    """The teacher's step."""
    substeps: int = setting(3, low=1)
    """Of the solver in each phase, and as many states: the phase's start, and random times below it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_the_grid(self.phases, self.original_inference_steps)

    @property
    def num_phases(self) -> int:
        return self.phases

    def starts(self, schedule: Schedule) -> Tensor:
        """(phases,), falling: 999, 739, 499, 239."""
        ends = phase_ends(schedule, self.phases, original_inference_steps=self.original_inference_steps)
        return torch.cat([self.grid(schedule)[-1:], ends.flip(0)[:-1]])

    def ends(self, schedule: Schedule) -> Tensor:
        """(phases,), falling: 739, 499, 239, clean data."""
        return torch.cat([self.starts(schedule)[1:], torch.tensor([schedule.clean])])

    def draw(self, rows: Tensor, data: Data, schedule: Schedule, generator: torch.Generator) -> Draw:
        """times: (B, phases x substeps), falling: every phase's start, then times spread over the phase."""
        count, starts = len(rows), self.starts(schedule)
        w = self.draw_w(count, generator)
        noise = data.draw_noise(rows, generator)
        captions = data.draw_captions(rows, generator, self.empty)
        width = ((starts - self.ends(schedule)) / self.substeps)[:, None]
        within = torch.rand(count, len(starts), self.substeps - 1, generator=generator)
        back = width * (torch.arange(1, self.substeps) - 0.8 * within)
        back = torch.cat([torch.zeros(count, len(starts), 1), back], dim=2)
        times = starts[:, None] - (back if starts.is_floating_point() else back.long())
        return Draw(rows, captions, times.flatten(1), noise, w)

    def loss(self, networks: Networks[Cond], batch: Batch[Cond]) -> Loss:
        schedule, w = networks.schedule, batch.guidance
        states = self.walk(networks, batch)
        many = len(states) - 1
        phase_of = torch.arange(many) // self.substeps
        t, t_m = batch.times.T.flatten(), self.ends(schedule)[phase_of].repeat_interleave(len(batch.times))
        x_t = torch.cat(states[:-1])
        target = torch.cat([states[(phase + 1) * self.substeps] for phase in phase_of.tolist()])
        denoise: Denoise[Cond] = networks.student
        if self.phases == 1:
            denoise = ConsistencyFunction(denoise, self.scalings(schedule))
        step = TrajectoryFunction(denoise, schedule, t_m.to(x_t.device))
        each_w = w.repeat(many) if isinstance(w, Tensor) else w
        prediction = step(x_t, t.to(x_t.device), batch.cond.repeat(many), each_w).to(target)
        return compared(prediction, target, METRICS[self.metric], t)

    @torch.no_grad()
    def walk(self, networks: Networks[Cond], batch: Batch[Cond]) -> list[Tensor]:
        """Where the guided teacher is at each of the times, and at the end."""
        guided = networks.guided(batch)
        solver = SOLVERS[self.solver](networks.schedule)
        x_t, state = batch.noise, solver.init()
        states, times = [x_t], batch.times.to(x_t.device).unbind(1)
        clean = torch.full((len(x_t),), networks.schedule.clean, device=x_t.device)
        for t, s in pairwise([*times, clean]):
            x_t, state = solver.step(guided, x_t, t, s, batch.cond, state)
            states.append(x_t)
        return states
