"""Trajectory consistency distillation: one step leads to any earlier time (TCD, Zheng et al. 2024, 2402.19159)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.ends import T_M_LAWS, AnyEarlierTime, Ends
from fewstep.core.objectives.phases import at_most_the_grid
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class Trajectory(Consistency):
    """At 4 steps FID 15.03 of LCM becomes 12.68, and more steps go on helping, where LCM's do not (TCD).

    What a distillation does by default, as `recommended`: docs/distillation.md has the table that speaks for it.
    """

    name: ClassVar[str] = "trajectory"
    trajectory: ClassVar[bool] = True
    recommended: ClassVar = {"k": 100, "metric": "pseudo_huber", "t_m": "log_uniform"}

    phases: int = setting(1, low=1)
    """Into how many phases the trajectory is cut: a step ends within its own."""
    t_m: str = setting("uniform", choices=T_M_LAWS)
    """Where steps end. `uniform`: at any time below t - k, all alike (TCD). `log_uniform`: as the steps of a walk do.
    From the last tenth of the times all the way, for only a single step goes so far, and it begins at pure noise; from
    below by k to t, uniformly in the logarithm, for walks of more steps take shorter ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_the_grid(self.phases, self.original_inference_steps)

    @classmethod
    def fits(cls, target: str, phases: int, trajectory: bool) -> bool:
        return target in cls.targets and trajectory

    @property
    def num_phases(self) -> int:
        return self.phases

    @property
    def ends(self) -> Ends:
        return AnyEarlierTime(self.phases, self.t_m)
