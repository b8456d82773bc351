"""Pairs of samples on one trajectory: the answer at t is held against the answer at t_n, an earlier time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.core.objectives.base import Batch, Cond, Data, Draw, Loss, Networks, compared
from fewstep.core.objectives.ends import Ends, Times
from fewstep.core.objectives.guided import Guided
from fewstep.core.objectives.metrics import METRICS
from fewstep.core.schedule import Schedule
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class Pairs(Guided, ABC):
    """metric(f(x_t, t), f^-(x_n, t_n)), with f^- the student without gradient, or an average of it.

    Which function f is, and so where it leads, says `ends`; how x_n is found says `earlier`.
    """

    k: int | None = setting(
        None, "--k", "The skipping interval, of 1000 times. [default: the grid's, 20; distill: 100]", low=1
    )
    """The skipping interval: from t the target is asked at t - k. None: the grid's own spacing, 20 of 1000, or in the
    fine-tuning of a model of phases or trajectories all the way. LCM (fig. 3): k = 1 hardly learns, 5 to 20 converge
    within 2,000 steps, 50 needs a better solver than DDIM. A larger k with several `substeps` carries what is known
    near clean data to pure noise in fewer generations."""
    target: str = setting(
        "student", "--target", "student (no gradient) or ema. [default: student]", choices=("student", "ema")
    )
    """`student`: the target is the student itself, without gradient (iCT, ECT, LCM-LoRA). `ema`: an average of it with
    `target_decay` a step. LCM's paper says 0.999943, which 4,000 steps move a fifth of the way; its scripts use 0.95,
    practically the student."""
    target_decay: float = setting(0.95, low=0, below=1)

    @property
    @abstractmethod
    def ends(self) -> Ends:
        """Where the steps end that are learnt."""

    @abstractmethod
    def earlier(self, networks: Networks[Cond], batch: Batch[Cond], x_t: Tensor, times: Times) -> Tensor:
        """x_n, at t_n, on the trajectory of x_t; called without gradient."""

    def interval(self, schedule: Schedule) -> float:
        """k, of `schedule.num_train_timesteps`."""
        return self.k or schedule.num_train_timesteps // self.original_inference_steps

    def arrives(self, schedule: Schedule) -> bool:
        """Whether every target is asked at the end of its phase, where the answer is the sample itself."""
        grid = self.grid(schedule)
        return bool((schedule.before(grid, self.interval(schedule)) <= self.ends.floor(grid, schedule)).all())

    def draw(self, rows: Tensor, data: Data, schedule: Schedule, generator: torch.Generator) -> Draw:
        """times: places on the grid."""
        w = self.draw_w(len(rows), generator)
        indices = torch.randint(self.original_inference_steps, (len(rows),), generator=generator)
        noise = data.draw_noise(rows, generator)
        captions = data.draw_captions(rows, generator, self.empty)
        u = torch.rand(len(rows), generator=generator) if self.ends.drawn else None
        return Draw(rows, captions, indices, noise, w, u)

    def times(self, batch: Batch[Cond] | Draw, schedule: Schedule) -> Times:
        """t, t_n and t_m of what was drawn, on the CPU. At index 0 of LCM's grid t_n is 0, not -1."""
        grid = self.grid(schedule)
        t, floor = grid[batch.times], self.ends.floor(grid, schedule)[batch.times]
        t_n = torch.maximum(schedule.before(t, self.interval(schedule)), floor)
        return Times(t, t_n, self.ends.t_m(t, t_n, floor, batch.u, schedule))

    def loss(self, networks: Networks[Cond], batch: Batch[Cond]) -> Loss:
        schedule, w = networks.schedule, batch.guidance
        drawn = self.times(batch, schedule)
        at = drawn.to(batch.noise.device)
        f, f_target = (
            self.ends.function(denoise, self.scalings(schedule), schedule, at.t_m)
            for denoise in (networks.student, networks.target or networks.student)
        )
        x_t = schedule.add_noise(batch.x_0, batch.noise, at.t)
        with torch.no_grad():
            target = self.earlier(networks, batch, x_t, at)
            if not self.arrives(schedule):
                target = f_target(target, at.t_n, batch.cond, w)
        return compared(f(x_t, at.t, batch.cond, w), target, METRICS[self.metric], drawn.t)
