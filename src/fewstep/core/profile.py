"""`SamplingProfile`: how a model wants to be sampled, in one record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

if TYPE_CHECKING:
    from fewstep.core.prediction import Prediction
    from fewstep.core.schedule import Schedule

Kind = Literal["lcm", "diffusion"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_GUIDANCE = 100.0
MAX_BAKED_GUIDANCE = 2.0  # where guidance is baked in: more on top burns the colours


class Facts(TypedDict, total=False):
    """What files say of sampling, flat: the record in an LCM-LoRA, and a part of `fewstep.json`."""

    kind: Kind
    steps: int
    guidance_scale: float
    w_range: Sequence[float] | None
    sampler: str
    gamma: float
    phases: int
    original_inference_steps: int
    timestep_scaling: float


@dataclass(frozen=True)
class Grid:
    """What a consistency model was distilled on.

    original_inference_steps  how many times (`Schedule.grid`)
    timestep_scaling          s in the boundary scalings c_skip, c_out (`consistency.boundary_scalings`)
    """

    original_inference_steps: int = 50
    timestep_scaling: float = 10.0


@dataclass(frozen=True)
class Spacing:
    """How diffusers spreads N times over a model's process (`grids.ode_timesteps`, `grids.flow_timesteps`).

    kind            one of `grids.SPACINGS`; a flow's is "linspace", "trailing" or "angles" (`grids.flow_timesteps`)
    offset          is added to every time of "leading"
    final_timestep  where the model's own DDIM ends: 0 the first time (`set_alpha_to_one=False`), None clean data
    least           of a flow: how much of the way (tau) lies below the last of the times of "linspace"
    terminal        of a flow: the sigma that the last time is stretched to (`shift_terminal`); None: as it is
    first           of a flow: how much of the way lies below the first of the times of "trailing"
    """

    kind: str = "leading"
    offset: int = 0
    final_timestep: float | None = None
    least: float = 0.001
    terminal: float | None = None
    first: float = 1.0


@dataclass(frozen=True)
class Guidance:
    """How strongly a model follows its words.

    scale     Imagen's guidance scale where nobody asks for another; 1 is no guidance
    w_range   the w = scale - 1 that it was distilled for, the lower first; None: not recorded
    embedded  whether w is an input of the network: one call a step, and no negative prompt
    """

    scale: float
    w_range: tuple[float, float] | None = None
    embedded: bool = False

    def __post_init__(self) -> None:
        if not _is_number(self.scale):
            raise ValueError(f"the guidance_scale is {self.scale!r}; it must be a number")
        if self.w_range is not None:
            low, high = _pair(self.w_range)
            if low > high:
                raise ValueError(f"the w_range is {self.w_range!r}; it must be two numbers, the lower first")


@dataclass(frozen=True)
class SamplingProfile:
    """The process, the prediction, the grid, the guidance, the sampler and the steps of a model.

    schedule        alpha_t and sigma_t at every time
    prediction      what the network predicts, and how x_0 follows from it
    kind            "lcm" (a consistency model, one to eight steps) or "diffusion" (its teacher)
    steps           how many, where nobody asks for others
    sampler         its own, by name (`samplers.checked` says whether it accepts the model)
    gamma, phases   of the sampler "tcd": its gamma, along trajectories that were distilled in so many phases

    Raises ValueError for values that cannot be.
    """

    schedule: Schedule
    prediction: Prediction
    kind: Kind
    steps: int
    guidance: Guidance
    sampler: str
    gamma: float = 0.3
    phases: int = 1
    grid: Grid = field(default_factory=Grid)
    spacing: Spacing = field(default_factory=Spacing)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"the steps are {self.steps!r}; they must be a number from 1 up")
        if (
            not _is_number(self.gamma)
            or not 0 <= self.gamma <= 1
            or not isinstance(self.phases, int)
            or self.phases < 1
        ):
            raise ValueError(
                f"the gamma is {self.gamma!r}, in {self.phases!r} phases; "
                "they must be a number from 0 to 1, and a number from 1 up"
            )

    @classmethod
    def default(
        cls,
        kind: Kind,
        schedule: Schedule,
        prediction: Prediction,
        grid: Grid | None = None,
        spacing: Spacing | None = None,
        *,
        embedded: bool = False,
    ) -> SamplingProfile:
        """With the steps, guidance and sampler of its kind: diffusers' defaults (of flows, those of SD3)."""
        if schedule.is_flow:
            sampler, steps, scale = ("flow_lcm", 4, 1.0) if kind == "lcm" else ("euler", 28, 7.0)
        else:
            sampler, steps, scale = ("lcm", 4, 1.0) if kind == "lcm" else ("dpm++", 25, 7.5)
        if kind == "lcm" and embedded:
            scale = 8.5
        return cls(
            schedule,
            prediction,
            kind,
            steps,
            Guidance(scale, embedded=embedded),
            sampler,
            grid=grid or Grid(),
            spacing=spacing or Spacing("trailing" if schedule.is_flow else "leading"),
        )

    @property
    def described(self) -> str:
        """In a line, for people."""
        kind = "consistency model" if self.kind == "lcm" else "diffusion model"
        embedded = ", w embedded" if self.guidance.embedded else ""
        return f"a {kind}, prediction type {self.prediction.name}{embedded}; {self.steps} steps by default"

    @property
    def bakes_guidance_in(self) -> bool:
        """Whether guidance is part of what it learnt, and no input of its network: more on top burns the colours."""
        return self.kind == "lcm" and not self.guidance.embedded and self.guidance.w_range != (0.0, 0.0)

    @property
    def guidance_range(self) -> tuple[float, float]:
        """The lowest and the highest guidance scale that may be asked for."""
        if self.guidance.embedded and self.guidance.w_range is not None:
            low, high = self.guidance.w_range
            return low + 1.0, high + 1.0
        return 1.0, MAX_BAKED_GUIDANCE if self.bakes_guidance_in else MAX_GUIDANCE

    @property
    def is_flow(self) -> bool:
        """Whether its process is a rectified flow."""
        return self.schedule.is_flow

    def for_size(self, tokens: int) -> SamplingProfile:
        """For pictures of so many tokens: only a flow's shift may depend on it (`Schedule.for_size`)."""
        schedule = self.schedule.for_size(tokens)
        return self if schedule is self.schedule else replace(self, schedule=schedule)

    def ending_clean(self) -> SamplingProfile:
        """With every walk ending on clean data, wherever the model's own DDIM ends."""
        return replace(self, spacing=replace(self.spacing, final_timestep=None))

    @property
    def zero_snr(self) -> bool:
        """Whether its schedule is a table of betas that was rescaled to end in pure noise (zero terminal SNR)."""
        config = self.schedule.to_config()
        return "kind" in config and config["rescale_zero_terminal_snr"]

    def with_zero_snr(self, wanted: bool) -> SamplingProfile:
        """On betas that end in pure noise, or on those before they were rescaled to (2305.08891).

        Raises ValueError for a schedule that is no table of betas.
        """
        if wanted == self.zero_snr:
            return self
        config = self.schedule.to_config()
        if "kind" not in config:
            raise ValueError("this schedule is not made of betas, so its end cannot be changed (zero terminal SNR)")
        from fewstep.core.schedules import from_config

        return replace(self, schedule=from_config({**config, "rescale_zero_terminal_snr": wanted}))

    def of_kind(self, kind: Kind) -> SamplingProfile:
        """As a model of that kind, with its defaults, where it is of another."""
        if kind == self.kind:
            return self
        default = SamplingProfile.default(
            kind, self.schedule, self.prediction, self.grid, self.spacing, embedded=self.guidance.embedded
        )
        return replace(default, gamma=self.gamma, phases=self.phases)

    def as_few_step(self, facts: Facts, *, embedded: bool | None = None) -> SamplingProfile:
        """As the consistency model that this one was distilled to, by what the record of that says.

        The published LCM-LoRAs (2311.05556) have no record. A consistency model stays as it is.

        embedded  whether the network reads w now; None: as before
        """
        if self.kind == "lcm":
            return self
        own = self.guidance.embedded if embedded is None else embedded
        plain = replace(self.of_kind("lcm"), guidance=Guidance(1.0, embedded=own))
        return plain.updated({**facts, "kind": "lcm"})

    def updated(self, facts: Facts) -> SamplingProfile:
        """With what `facts` say in place of its own."""
        own = self.of_kind(facts.get("kind", self.kind))
        w_range = facts.get("w_range", own.guidance.w_range)
        return replace(
            own,
            steps=facts.get("steps", own.steps),
            guidance=replace(
                own.guidance,
                scale=facts.get("guidance_scale", own.guidance.scale),
                w_range=None if w_range is None else _pair(w_range),
            ),
            sampler=facts.get("sampler", own.sampler),
            gamma=facts.get("gamma", own.gamma),
            phases=facts.get("phases", own.phases),
            grid=Grid(
                facts.get("original_inference_steps", own.grid.original_inference_steps),
                facts.get("timestep_scaling", own.grid.timestep_scaling),
            ),
        )

    def facts(self) -> Facts:
        """The part of it that weights cannot say and schedulers' files do not; `updated` takes it."""
        return {
            "kind": self.kind,
            "steps": self.steps,
            "guidance_scale": self.guidance.scale,
            "w_range": self.guidance.w_range,
            "sampler": self.sampler,
            "gamma": self.gamma,
            "phases": self.phases,
            "original_inference_steps": self.grid.original_inference_steps,
            "timestep_scaling": self.grid.timestep_scaling,
        }


def _pair(w_range: Sequence[float]) -> tuple[float, float]:
    if not isinstance(w_range, (list, tuple)) or len(w_range) != 2 or not all(map(_is_number, w_range)):
        raise ValueError(f"the w_range is {w_range!r}; it must be two numbers, the lower first")
    return w_range[0], w_range[1]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
