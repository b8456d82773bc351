"""Phased consistency distillation: one step leads to the end of its phase (PCM, Wang et al. 2024, 2405.18407)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewstep.core.objectives.consistency import Consistency
from fewstep.core.objectives.ends import Ends, PhaseEnds
from fewstep.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class Phases(Consistency):
    """Few-step sampling without fresh noise, best at as many steps as phases."""

    name: ClassVar[str] = "phases"

    phases: int = setting(4, "--phases", "In place of trajectories, with huber and k 20; 1 is LCM's own way.", low=2)
    """Into how many phases the trajectory is cut; each one's end is learnt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_the_grid(self.phases, self.original_inference_steps)

    @classmethod
    def fits(cls, target: str, phases: int, trajectory: bool) -> bool:
        return target in cls.targets and phases != 1 and not trajectory

    @property
    def num_phases(self) -> int:
        return self.phases

    @property
    def ends(self) -> Ends:
        return PhaseEnds(self.phases)


def at_most_the_grid(phases: int, original_inference_steps: int) -> None:
    """Raises ValueError for more phases than times."""
    if phases > original_inference_steps:
        raise ValueError(f"phases={phases} are more than the {original_inference_steps} times of the grid")
