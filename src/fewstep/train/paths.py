"""Distillation whose targets are solved, not learnt: whole paths of the guided teacher, from pure noise to a picture.

Ordinary distillation asks the student itself for its targets, so what it knows travels from clean data to pure noise
in many small generations, which a run of minutes does not reach. Here the teacher walks all the way, and every state on
its path is a lesson: from there one step of the student must lead to where the teacher left the phase (PCM, 2405.18407,
with the target solved for). No picture is needed, only captions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction, TrajectoryFunction
from fewstep.core.guidance import ClassifierFreeGuidance
from fewstep.core.losses import METRICS, Loss
from fewstep.core.samplers import SOLVERS
from fewstep.core.samplers.grids import phase_ends, training_grid
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning
from fewstep.train.objectives import Draw, Teacher, draw_w, scalars, told_w


class PathDistillation:
    """The objective: each of a batch's paths gives `phases` x `substeps` states, at times of its own.

    f          the student; told w where it embeds it
    teacher    unguided; guided here, with w ~ U[w_range] in LCM's form (guidance_scale - 1)
    phases     where the student's steps end; with one, at the picture, which a single jump cannot reach sharply
    substeps   of the solver in each phase, and as many states: the phase's start, and random times below it
    empty      share of empty captions
    """

    def __init__(
        self,
        f: ConsistencyFunction,
        teacher: Teacher,
        cache: LatentCache,
        *,
        w_range: tuple[float, float],
        phases: int = 4,
        solver: str = "dpm++",
        substeps: int = 3,
        metric: str = "huber",
        empty: float = 0.05,
        original_inference_steps: int = 50,
        device: torch.device | str = "cpu",
    ) -> None:
        self.f, self.teacher, self.cache, self.w_range, self.empty = f, teacher, cache, w_range, empty
        self.schedule, self.solver, self.metric = teacher.schedule, SOLVERS[solver](teacher.schedule), METRICS[metric]
        self.substeps, self.device = substeps, device
        total = self.schedule.num_train_timesteps
        ends = phase_ends(phases, original_inference_steps=original_inference_steps, num_train_timesteps=total)
        last = training_grid(total, original_inference_steps)[-1:]
        self.starts = torch.cat([last, ends.flip(0)[:-1]])  # falling: 999, 739, 499, 239
        self.ends = torch.cat([self.starts[1:], torch.tensor([self.schedule.clean])])

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return self.loss(self.draw(rows, generator))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Draw:
        """The times are (B, phases x substeps), falling: every phase's start, then times spread over the phase."""
        count = len(rows)
        w = draw_w(self.w_range, count, generator)
        noise = self.cache.draw_noise(rows, generator)
        captions = self.cache.draw_captions(rows, generator, self.empty)
        width = ((self.starts - self.ends) / self.substeps)[:, None]
        within = torch.rand(count, len(self.starts), self.substeps - 1, generator=generator)
        back = width * (torch.arange(1, self.substeps) - 0.8 * within)
        times = self.starts[:, None] - torch.cat([torch.zeros(count, len(self.starts), 1), back], dim=2).long()
        return Draw(rows, captions, times.flatten(1), noise, w)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        cond = self.cache.conditioning(draw.captions, draw.rows, self.device)
        w = told_w(self.w_range, draw, self.device)
        states = self.walk(draw.noise.to(self.device), draw.times, cond, w)
        phase_of = torch.arange(len(states) - 1) // self.substeps
        times, ends = draw.times.T.flatten(), self.ends[phase_of].repeat_interleave(len(draw))
        x_t = torch.cat(states[:-1])
        target = torch.cat([states[(phase + 1) * self.substeps] for phase in phase_of.tolist()])
        f = self.f if len(self.starts) == 1 else self.f.denoise
        step = TrajectoryFunction(f, self.schedule, ends.to(self.device))
        many = len(states) - 1
        told = w.repeat(many) if isinstance(w, Tensor) else w
        prediction = step(x_t, times.to(self.device), cond.repeat(many), told).to(target)
        per_sample = self.metric(prediction, target)
        return scalars(Loss(per_sample.mean(), per_sample, prediction, target), times, self.schedule)

    @torch.no_grad()
    def walk(self, x_t: Tensor, times: Tensor, cond: Conditioning, w: float | Tensor) -> list[Tensor]:
        """Where the guided teacher is at each of the times, and at the end."""
        guided = ClassifierFreeGuidance(self.teacher, self.cache.unconditional(cond), w)
        state = self.solver.init()
        states = [x_t]
        clean = torch.full((len(x_t),), self.schedule.clean, device=self.device)
        for t, s in pairwise([*times.to(self.device).unbind(1), clean]):
            x_t, state = self.solver.step(guided, x_t, t, s, cond, state)
            states.append(x_t)
        return states
