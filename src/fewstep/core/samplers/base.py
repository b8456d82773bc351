"""What a sampler is: the times at which it asks the network, and its walk over them, which yields every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewstep.core.schedule import CLEAN

Draw = Callable[[int], Tensor]  # the index of a step -> fresh unit noise like x_T


@dataclass(frozen=True, eq=False)
class Step:
    """A finished step.

    index, num_steps  0 .. num_steps - 1
    t                 the time that the step has reached; -1, clean data, after the last
    x_t               the sample at t; after the last step, the result
    x0                the estimate of x_0 that led there: what a preview shows
    """

    index: int
    num_steps: int
    t: int
    x_t: Tensor
    x0: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A way from noise to a picture.

    name       what people ask for it by
    about      a line for people
    rank       where lists show it: the lowest is first
    scheduler  diffusers' class that does the same
    """

    name: str
    about: str
    rank: int = 100
    scheduler: str


def falling(timesteps: Sequence[int] | Tensor) -> list[int]:
    """The times as a list; raises ValueError unless each is below the one before and none below the first time."""
    times = timesteps.tolist() if isinstance(timesteps, Tensor) else list(timesteps)
    if not times:
        raise ValueError("no timesteps were given; sampling takes at least one")
    if times[-1] <= CLEAN or any(t <= s for t, s in pairwise(times)):
        raise ValueError(f"timesteps must fall, each below the one before, and end at 0 or above; got {times}")
    return times
