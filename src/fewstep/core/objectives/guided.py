"""The settings that all objectives of consistency models share, and those of a distillation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewstep.core.consistency import Scalings, hard_scalings, scalings_of
from fewstep.core.objectives.base import Batch, Cond, Data, Draw, Loss, Method, Networks
from fewstep.core.objectives.metrics import METRICS
from fewstep.core.schedule import Schedule
from fewstep.core.settings import Value, check, setting


@dataclass(frozen=True, kw_only=True)
class Guided:
    """Every option has its evidence beside it. Numbers of papers are their authors'; what fewstep measured itself is in
    docs/distillation.md.

    refuses  what is said of a setting that other objectives have and this one has not
    """

    refuses: ClassVar[Mapping[str, str]] = {}

    metric: str = setting(
        "huber", "--metric", "l2, huber, pseudo_huber, cauchy. [default: huber; distill: pseudo_huber]", choices=METRICS
    )
    """`l2`, `huber` (elementwise, c = 0.001: nearly L1; all of diffusers' published commands), `pseudo_huber` (of the
    whole sample, iCT) or `cauchy` (2502.01441 finds impulsive outliers in latents, and it the best against them)."""
    original_inference_steps: int = setting(50, "--grid", "Times that are trained on. [default: 50]", low=1)
    """Size of the grid of times t; LCM's is 50: 19, 39, …, 999."""
    w_range: tuple[float, float] | None = setting(
        None,
        "--guidance",
        "The guidance scales to learn: a range (1:9) that the student is given, one (7.5), or none. "
        "[default: by the teacher's own scale]",
    )
    """Guidance, in LCM's form (guidance_scale - 1): drawn uniformly from the range, fixed where both ends are equal,
    (0, 0) for none at all (then the student can be guided, and take negative prompts, itself). None: for a full
    student (0, 2 x the teacher's own scale), for a LoRA the teacher's own, for fine-tuning the model's own range. LCM
    draws from [2, 14]; LCM-LoRA fixes 7.5 (its paper; its script draws without telling the network, which then learns
    the average); PixArt-delta (fig. 2) finds fixed better than embedded in FID and CLIP."""
    empty: float = setting(0.05, "--empty", "Share of empty captions.", low=0, below=1)
    """Share of empty captions, so that the student knows the unconditional picture. Public scripts parse such an option
    and train with 0; PCM and TDD use 0.1 and 0.2, and their students take negative prompts."""
    boundary: str = setting("lcm", choices=("lcm", "hard"))
    """`lcm`: c_skip and c_out with sigma_data 0.5. `hard`: 1 and 0 at t = 0 (PCM). On the grid they agree to 1e-5."""
    timestep_scaling: float = setting(10.0)
    """s in the boundary scalings; saved with the model, as samplers need it."""

    def __post_init__(self) -> None:
        check(self)
        if self.w_range is not None and not 0 <= self.w_range[0] <= self.w_range[1]:
            raise ValueError(f"w_range={self.w_range} must be two numbers from 0 up, the lower first")

    def scalings(self, schedule: Schedule) -> Scalings:
        """What keeps the student the identity at t = 0."""
        return hard_scalings if self.boundary == "hard" else scalings_of(schedule, self.timestep_scaling)

    def grid(self, schedule: Schedule) -> Tensor:
        """The times t, rising: 19, 39, …, 999."""
        return schedule.grid(self.original_inference_steps)

    def draw_w(self, count: int, generator: torch.Generator) -> Tensor | None:
        """(count,) uniformly from `w_range`; None without guidance."""
        if self.w_range is None:
            raise ValueError("w_range is open: it is taken from the model before anything is drawn")
        low, high = self.w_range
        w = low + (high - low) * torch.rand(count, generator=generator)
        return None if self.w_range == (0.0, 0.0) else w


@dataclass(frozen=True, kw_only=True)
class Distillation(Guided, ABC):
    """What `fewstep distill` needs to know of an objective; one that is a subclass, with a name, is found by itself.

    targets      the values of `--target` that mean it, each with a phrase for `--help`
    trajectory   whether the student learns to reach every earlier time
    phases       into how many the trajectory is cut, where it is
    recommended  settings that a run begins with in place of the defaults, which are the paper's
    cost         pictures of an ordinary batch that one costs here: a run begins with so many times fewer
    """

    name: ClassVar[str]
    method: ClassVar[Method] = "distill"
    targets: ClassVar[Mapping[str, str]] = {}
    trajectory: ClassVar[bool] = False
    recommended: ClassVar[Mapping[str, Value]] = {}
    cost: ClassVar[int] = 1

    embed_w: bool | None = setting(None)
    """Whether w is an input of the student, through a projection that starts at zero (LCM, appendix), so that at first
    it is the teacher. None: of a full student with a range it is."""
    gamma: float = setting(0.0, "--gamma", "Fresh noise in TCD's sampler, 0 to 1. [default: 0]", low=0, high=1)
    """How much fresh noise the sampler adds, TCD's. TCD's paper samples with 0.2, its scheduler with 0.3. In the
    ablations even 0.1 nearly doubles the distance to the drawings at four and eight steps. Sampling only."""

    @classmethod
    def fits(cls, target: str, phases: int, trajectory: bool) -> bool:
        """Whether these options mean this objective."""
        return target in cls.targets

    @abstractmethod
    def draw(self, rows: Tensor, data: Data, schedule: Schedule, generator: torch.Generator) -> Draw: ...

    @abstractmethod
    def loss(self, networks: Networks[Cond], batch: Batch[Cond]) -> Loss: ...

    @property
    def num_phases(self) -> int:
        return 1

    @property
    def along(self) -> bool:
        """Whether the trained model is sampled along its trajectories (`Sampler.along`)."""
        return self.trajectory or self.num_phases > 1

    @property
    def advice(self) -> list[str]:
        """What a person should know before the start."""
        return []
