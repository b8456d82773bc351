"""What a sampler is: the times at which it asks the network, and its walk over them, which yields every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewstep.core.denoise import Cond, Denoise
from fewstep.core.profile import SamplingProfile
from fewstep.core.schedule import Schedule

Draw = Callable[[int], Tensor]  # the index of a step -> fresh unit noise like x_T


@dataclass(frozen=True, eq=False)
class Step:
    """A finished step.

    index, num_steps  0 .. num_steps - 1
    t                 the time that the step has reached; mostly that of clean data, after the last
    x_t               the sample at t; after the last step, the result
    x0                the estimate of x_0 that led there: what a preview shows
    """

    index: int
    num_steps: int
    t: float
    x_t: Tensor
    x0: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way from noise to a picture.

    name       what people ask for it by
    about      a line for people
    rank       where lists show it: the lowest is first
    scheduler  diffusers' class that does the same
    few_step   whether that class, in a model's folder, says that it is a few-step model
    along      whether it walks along trajectories: a step ends at any earlier time, which the model must know
    """

    name: str
    about: str
    rank: int = 100
    scheduler: str
    few_step: bool = False
    along: bool = False

    @abstractmethod
    def accepts(self, profile: SamplingProfile) -> bool:
        """Whether a model with this profile can be sampled so."""

    @abstractmethod
    def times(self, profile: SamplingProfile, num_steps: int, strength: float = 1.0) -> Tensor:
        """Where the network is asked: falling, from the last time of the process, or from lower for less strength.

        Raises ValueError for more steps than there are times, and for fewer than `least_steps`.
        """

    def least_steps(self, strength: float) -> int:
        """The fewest steps that `times` takes at this strength."""
        return 1

    @abstractmethod
    def walk(
        self,
        denoise: Denoise[Cond],
        profile: SamplingProfile,
        x_T: Tensor,
        times: Sequence[float] | Tensor,
        cond: Cond,
        w: float | Tensor | None,
        draw: Draw,
    ) -> Iterator[Step]:
        """From x_T (B, ...) at times[0] over the other times to a picture; yields every step, and asks for no more
        than what is taken.

        times  falling: those of `times`, or others
        w      as `denoise` takes it
        """


def falling(timesteps: Sequence[float] | Tensor, schedule: Schedule) -> list[float]:
    """The times as a list; raises ValueError unless each is below the one before and all are above clean data's."""
    times: list[float] = timesteps.tolist() if isinstance(timesteps, Tensor) else list(timesteps)
    if not times:
        raise ValueError("no timesteps were given; sampling takes at least one")
    if times[-1] <= schedule.clean or any(t <= s for t, s in pairwise(times)):
        raise ValueError(
            f"timesteps must fall, each below the one before, and end above {schedule.clean:g}, which is clean data; "
            f"got {times}"
        )
    return times
