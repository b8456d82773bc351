"""`Adapted`: a denoising network as its adapters let it be called."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewstep.models.adapters.record import Adapters
from fewstep.models.conditioning import Conditioning
from fewstep.models.families.base import NetworkWrapper


@dataclass(frozen=True, eq=False)
class Adapted(NetworkWrapper):
    """Around any network: every row takes of the adapters, in it and beside it, what its conditioning says."""

    adapters: Adapters

    def __call__(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        inputs = self.adapters.steered(self.inputs(x_t, t, cond, w), cond)
        with self.adapters.applied(cond, x_t.device):
            return self.run(inputs)
