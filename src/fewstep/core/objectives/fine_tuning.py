"""Latent consistency fine-tuning: a consistency model learns from pictures alone (LCM, 2310.04378, Algorithm 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from fewstep.core.objectives.base import Batch, Cond, Method, Networks
from fewstep.core.objectives.ends import CleanData, Ends, Times
from fewstep.core.objectives.pairs import Pairs
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class FineTuning(Pairs):
    """x_n = alpha_n x_0 + sigma_n noise: the same noise at both times takes the teacher's place.

    Where `networks.guidance` says what w did in the model as it was, the picture is moved by it, so that w goes on
    meaning something. Without it the student learns pictures without guidance, whatever w it is given, as in the paper.
    """

    name: ClassVar[str] = "fine_tuning"
    method: ClassVar[Method] = "finetune"

    refuses: ClassVar = {
        "phases": "phases is what the model was made with, and fine-tuning keeps it: leave phases out",
        "trajectory": "trajectory is what the model was made with, and fine-tuning keeps it: leave trajectory out",
    }

    w_range: tuple[float, float] | None = setting(None)
    """Only a recipe changes what the model was distilled for."""
    distilled: Ends = field(default_factory=CleanData)
    """Where the model's steps end; taken from the model before the start, for otherwise it would forget them."""

    def __post_init__(self) -> None:
        if self.target not in ("student", "ema"):
            raise ValueError(f"target={self.target!r} needs a teacher, and fine-tuning has none; use student or ema")
        super().__post_init__()

    @property
    def ends(self) -> Ends:
        return self.distilled

    def earlier(self, networks: Networks[Cond], batch: Batch[Cond], x_t: Tensor, times: Times) -> Tensor:
        if networks.guidance is None:
            return networks.schedule.add_noise(batch.x_0, batch.noise, times.t_n)
        moved = batch.x_0 + networks.guidance(x_t, times.t, batch.cond, batch.guidance)
        return networks.schedule.transfer(x_t, moved, times.t, times.t_n)
