"""The lesson of the single step, beside whatever else a student with phases learns.

The phases of a phased model end where a jump can lead, and its first jump only as far as 739: as a picture that is a
blur. So the last time of the grid is kept for another question, where the whole walk leads, and walks start one time
below it. The network is told times apart anyway, and the student's own walk has the answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewstep.core.consistency import ConsistencyFunction
from fewstep.core.losses import METRICS, one_step_loss
from fewstep.core.phases import phased_timesteps
from fewstep.core.schedule import Schedule
from fewstep.models.conditioning import Conditioning
from fewstep.train.draw import Draw

SHARE = 1 / 8


class OneStep:
    """Adds the lesson to the scalars of an objective.

    f, f_target  the student, and whose walk it learns from
    weight       of the lesson, beside a loss that weighs 1
    share        of the pictures that take part in it, by chance
    """

    def __init__(
        self,
        f: ConsistencyFunction,
        f_target: ConsistencyFunction,
        schedule: Schedule,
        *,
        phases: int,
        weight: float,
        metric: str,
        original_inference_steps: int,
        share: float = SHARE,
    ) -> None:
        self.f, self.f_target, self.schedule, self.metric = f, f_target, schedule, METRICS[metric]
        self.weight, self.share = weight, share
        sizes: dict[str, Any] = {
            "original_inference_steps": original_inference_steps,
            "num_train_timesteps": schedule.num_train_timesteps,
        }
        self.t = int(phased_timesteps(1, phases, **sizes))
        self.walk = [*phased_timesteps(phases, phases, one_step=True, **sizes).tolist(), 0]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) bool: which pictures of a batch take part."""
        return torch.rand(count, generator=generator) < self.share

    def added(self, scalars: dict[str, Tensor], draw: Draw, cond: Conditioning, w: float | Tensor) -> dict[str, Tensor]:
        """With the lesson in the loss; where nobody takes part it weighs nothing, and costs every process the same."""
        assert draw.asked is not None
        asked = draw.asked.nonzero().flatten()
        rows = (asked if len(asked) else torch.zeros(1, dtype=torch.int64)).to(cond.states.device)
        result = one_step_loss(
            self.f.denoise,
            self.f_target.denoise,
            self.schedule,
            draw.noise.to(rows.device)[rows],
            self.t,
            self.walk,
            cond[rows],
            w[rows] if isinstance(w, Tensor) else w,
            metric=self.metric,
        )
        weight = self.weight * len(asked) / (self.share * len(draw))
        return scalars | {"loss": scalars["loss"] + weight * result.loss, "loss_one_step": result.loss.detach()}
