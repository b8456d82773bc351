"""The diffusion objective: what a teacher, or a style, is trained by (DDPM, Ho et al. 2020, 2006.11239, eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.objectives.base import Batch, Cond, Data, Draw, Loss, Method, Networks, compared
from fewstep.core.objectives.metrics import l2
from fewstep.core.schedule import Schedule
from fewstep.core.settings import check, setting


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """||network(x_t, t) - target||^2 with x_t = alpha_t x_0 + sigma_t noise, at uniformly drawn times.

    The target is what the network predicts: noise, v, x_0, ...
    """

    name: ClassVar[str] = "diffusion"
    method: ClassVar[Method] = "style"

    empty: float = setting(0.1, "--empty", "Share of empty captions.", low=0, below=1)
    """Share of captions that are dropped, for guidance."""

    def __post_init__(self) -> None:
        check(self)

    def draw(self, rows: Tensor, data: Data, schedule: Schedule, generator: torch.Generator) -> Draw:
        """times: t itself."""
        t = schedule.draw_times(len(rows), generator)
        noise = data.draw_noise(rows, generator)
        return Draw(rows, data.draw_captions(rows, generator, self.empty), t, noise)

    def loss(self, networks: Networks[Cond], batch: Batch[Cond]) -> Loss:
        student, schedule = networks.student, networks.schedule
        t = batch.times.to(batch.noise.device)
        x_t = schedule.add_noise(batch.x_0, batch.noise, t)
        prediction = student.output(x_t, t, batch.cond, batch.w).to(x_t.dtype)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        target = student.prediction.target(batch.x_0, batch.noise, alpha, sigma).to(x_t.dtype)
        return compared(prediction, target, l2, batch.times)
