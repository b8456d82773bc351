"""`Job`: one picture that somebody waits for, and the events that tell how it goes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.plan import Plan

Pixels = NDArray[np.uint8]


class Reason(StrEnum):
    """Why a job ended without a picture."""

    SUPERSEDED = "superseded"  # a newer request of the same session took its place while it waited
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"
    SHUTDOWN = "shutdown"
    WITHHELD = "withheld"  # by the operator's content checker


@dataclass(frozen=True, eq=False)
class Stepped:
    """Step `index` of `num_steps` is done; `preview` (H, W, 3) shows the estimate of the result where it was wanted."""

    index: int
    num_steps: int
    preview: Pixels | None = None


@dataclass(frozen=True, eq=False)
class Generated:
    """The picture (H, W, 3), and how many seconds it waited and was worked on."""

    pixels: Pixels
    waited: float
    worked: float


@dataclass(frozen=True)
class Failed:
    """There will be no picture."""

    reason: Reason
    message: str


Event = Stepped | Generated | Failed


@dataclass(eq=False)
class Deadline:
    """The `time.monotonic()` until which the jobs of one order are wanted; with `to_start` only until the first of them
    has started, after which all of them may take their time.
    """

    at: float
    to_start: bool = False

    def started(self) -> None:
        if self.to_start:
            self.at = math.inf


@dataclass(eq=False)
class Job:
    """A plan for one picture by `model`.

    sink      gets every event, on whatever thread it happens: it must not block. After `Generated` or `Failed`, one of
              which always comes, there is silence
    deadline  after which nobody wants the picture any more
    previews  whether `Stepped` should carry pictures (each costs a decoding)
    """

    model: LatentModel
    plan: Plan
    sink: Callable[[Event], None]
    deadline: Deadline
    previews: bool = False
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    over: bool = False
    _voice: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if len(self.plan.seeds) != 1:
            raise ValueError(f"a job is one picture; this plan has {len(self.plan.seeds)}")

    @property
    def cost(self) -> float:
        """The work in it, in network calls times latents."""
        plans = (self.plan, self.plan.refinement)
        return float(sum(len(plan.timesteps) * plan.height * plan.width for plan in plans if plan is not None))

    def begin(self) -> None:
        self.started = time.monotonic()
        self.deadline.started()

    def tell(self, event: Event) -> None:
        """Pass an event on, unless all has been said; from any thread."""
        with self._voice:
            if self.over:
                return
            self.over = not isinstance(event, Stepped)
            self.sink(event)
