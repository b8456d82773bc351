"""Inpainting as a wrapper: what is known stays known at every step, whatever the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.schedule import Time


@dataclass(frozen=True, eq=False)
class Inpainting(Generic[Cond]):
    """A `Denoise` whose x_0 is another's inside a mask and the known picture outside
    (RePaint's eq. 8 on x_0, 2201.09865).

    known  (B, ...) or broadcastable: the picture that is to stay
    mask   broadcastable to it, in [0, 1]: 1 is inpainted, 0 stays

    Both samplers go on from x_0, so the known part gets its exact noise at the next time, and is exact at the end.
    """

    denoise: Denoise[Cond]
    known: Tensor
    mask: Tensor

    def __call__(self, x_t: Tensor, t: Time, cond: Cond, w: float | Tensor | None = None) -> Tensor:
        return self.known + self.mask * (self.denoise(x_t, t, cond, w) - self.known)
