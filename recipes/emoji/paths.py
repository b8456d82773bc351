"""The starter's second distillation: phases, taught by whole paths of the guided teacher.

Ordinary distillation asks the student itself for its targets, so what it knows travels from clean data to pure noise in
many small generations, which a run of minutes does not reach. Here the teacher walks from pure noise to a picture, and
every state on its way is a pair: from there one step of the student must lead to where the teacher left the phase (PCM,
2405.18407, with the target solved instead of learnt). No picture is needed, only captions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from fewstep.core.guidance import ClassifierFreeGuidance
from fewstep.core.losses import METRICS
from fewstep.core.phases import phase_ends
from fewstep.core.prediction import Denoiser
from fewstep.core.schedule import CLEAN
from fewstep.core.solvers import DPMSolverPP2M, transfer
from fewstep.data.latents import LatentCache
from fewstep.models.conditioning import Conditioning

EMPTY = 0.05  # of the captions


class Paths:
    """The objective: `per_phase` states of each of the `phases` of a path, the same times for the whole batch."""

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        cache: LatentCache,
        *,
        w_range: tuple[float, float],
        phases: int,
        per_phase: int = 3,
        metric: str = "huber",
        device: str = "cpu",
    ) -> None:
        self.device = device
        self.student, self.teacher, self.cache, self.w_range = student, teacher, cache, w_range
        self.schedule, self.per_phase, self.metric = teacher.schedule, per_phase, METRICS[metric]
        self.starts = [self.schedule.num_train_timesteps - 1, *phase_ends(phases).flip(0).tolist()[:-1]]
        self.uncond = Conditioning(cache.states[:1].float().to(device))

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        count, (low, high) = len(rows), self.w_range
        w = (low + (high - low) * torch.rand(count, generator=generator)).to(self.device)
        states = self.cache.states[self.cache.draw_captions(rows, generator, EMPTY)]
        cond = Conditioning(states.float().to(self.device))
        noise = torch.randn(count, *self.cache.latents.shape[1:], generator=generator)
        times = self._times(generator)
        reached = self._walk(noise.to(self.device), times, cond, w)
        ends = [next(end for end in [*self.starts, CLEAN] if end < t) for t in times]
        x_t, target = (torch.cat([reached[t] for t in each]) for each in (times, ends))
        t, s = (torch.tensor(each, device=self.device).repeat_interleave(count) for each in (times, ends))
        many = Conditioning(cond.states.repeat(len(times), 1, 1))
        x_0 = self.student(x_t, t, many, w.repeat(len(times)))
        loss = self.metric(transfer(self.schedule, x_t, x_0, t, s).to(target), target)
        return {"loss": loss.mean(), "loss_from_noise": loss[:count].mean()}

    def _times(self, generator: torch.Generator) -> list[int]:
        """The starts of the phases, and times between them that differ from batch to batch."""
        times = set(self.starts)
        for start, end in pairwise([*self.starts, CLEAN]):
            width = (start - end) / self.per_phase
            for place in range(1, self.per_phase):
                back = width * (place - torch.rand(1, generator=generator).item() * 0.8)
                times.add(max(start - int(back), end + 1))
        return sorted(times, reverse=True)

    @torch.no_grad()
    def _walk(self, x_t: Tensor, times: list[int], cond: Conditioning, w: Tensor) -> dict[int, Tensor]:
        """Where the guided teacher is at each of the times, and at the end."""
        solver = DPMSolverPP2M(self.schedule)
        guided = ClassifierFreeGuidance(self.teacher, self.uncond.expand(len(x_t)), w)
        state, reached = solver.init(), {times[0]: x_t}
        for t, s in pairwise([*times, CLEAN]):
            x_t, state = solver.step(guided, x_t, t, s, cond, state)
            reached[s] = x_t
        return reached
