"""The times at which a network is asked: walks over the grid that a consistency model is distilled on
(`Schedule.grid`; LCM, 2310.04378, sec. 4.3), the phases of a phased one (PCM, Wang et al. 2024, 2405.18407), and how
the times of an ODE are spread.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewstep.core.profile import Spacing
from fewstep.core.schedule import Schedule
from fewstep.core.schedules import DiscreteSchedule

SPACINGS = ("trailing", "leading", "linspace")


def consistency_timesteps(
    schedule: Schedule, num_inference_steps: int, strength: float = 1.0, *, original_inference_steps: int = 50
) -> Tensor:
    """N times for a consistency model, falling: even indices into the first `strength` of its training grid.

    (N,). Four steps of Stable Diffusion's are 999, 759, 499, 259; at strength 0.5 they are 499, 379, 259, 139.
    Raises ValueError when that part of the grid has fewer than N times.
    """
    grid = schedule.grid(original_inference_steps)
    part = grid[: _portion(original_inference_steps, strength)].flip(0)
    if not 1 <= num_inference_steps <= len(part):
        raise ValueError(
            f"{num_inference_steps} steps at strength {strength:g} do not fit: of the grid of "
            f"{original_inference_steps} times that leaves {len(part)}. Ask for fewer steps or more strength"
        )
    stride = len(part) / num_inference_steps  # a float, so that its cuts are those of diffusers
    return part[[math.floor(i * stride) for i in range(num_inference_steps)]]


def phase_ends(schedule: Schedule, phases: int, *, original_inference_steps: int = 50) -> Tensor:
    """The times at which the phases of a phased consistency model end, rising: 0, 239, 499, 739 for four of them.

    Where times are real they divide the way evenly, so that as many steps of "trailing" times begin where phases do.
    (phases,). A sample at t belongs to the phase with the last end below t (PCM, 2405.18407, sec. 3.1).
    """
    counts = _phase_counts(phases, original_inference_steps)[:-1]
    if not isinstance(schedule, DiscreteSchedule):
        return schedule.at(torch.arange(phases, dtype=torch.float64) / phases)
    grid = schedule.grid(original_inference_steps)
    return torch.cat([torch.zeros_like(grid[:1]), grid[[count - 1 for count in counts[1:]]]])


def phased_timesteps(
    schedule: Schedule, num_inference_steps: int, phases: int, *, original_inference_steps: int = 50
) -> Tensor:
    """N times for a phased consistency model, falling, with every phase's start among them where N allows it.

    (N,). For N = phases they are the starts themselves (999, 739, 499, 239), so that every step goes where the model
    was trained to go; more steps divide the noisiest phases further, fewer skip starts and cross ends.
    """
    grid = schedule.grid(original_inference_steps)
    counts = _phase_counts(phases, original_inference_steps)
    starts = counts[:0:-1]
    if num_inference_steps <= phases:
        return grid[[starts[i * phases // num_inference_steps] - 1 for i in range(num_inference_steps)]]
    places: list[int] = []
    for index, (start, end) in enumerate(zip(starts, counts[-2::-1], strict=True)):
        share = num_inference_steps // phases + (index < num_inference_steps % phases)
        points = max(start - end - (end == 0), 1)  # the first time of all is left out while there are others
        if share > points + (end == 0):
            raise ValueError(
                f"{num_inference_steps} steps do not fit a grid of {original_inference_steps} in {phases} phases"
            )
        places += [start - i * points // share - 1 for i in range(share)]
    return grid[places]


def _phase_counts(phases: int, original_inference_steps: int) -> list[int]:
    """How many times of the grid lie below the end of each phase, and at last all: 0, 12, 25, 37, 50 for four."""
    if not 1 <= phases <= original_inference_steps:
        raise ValueError(
            f"the phases must be 1 .. {original_inference_steps}, one of the grid's times each; got {phases}"
        )
    return [original_inference_steps * i // phases for i in range(phases + 1)]


def ode_timesteps(
    schedule: Schedule,
    num_inference_steps: int,
    strength: float = 1.0,
    *,
    spacing: str = "trailing",
    steps_offset: int = 0,
    multistep: bool = False,
) -> Tensor:
    """N times for an ODE solver, falling; strength below 1 keeps the last part of them, int(N strength).

    On a table they are int64, and spaced as `spacing`, `steps_offset` and `multistep` say (`spaced`). Where times are
    real they lie evenly, as the model lays them out, from the last one down: "trailing".
    Raises ValueError when N is outside 1 .. T or the strength leaves no step.
    """
    if isinstance(schedule, DiscreteSchedule):
        times = spaced(schedule.num_train_timesteps, num_inference_steps, spacing, steps_offset, multistep)
    else:
        times = schedule.grid(num_inference_steps).flip(0)
    kept = _portion(num_inference_steps, strength)
    if kept == 0:
        raise ValueError(
            f"strength {strength:g} leaves none of {num_inference_steps} steps; it must be at least "
            f"{1 / num_inference_steps:g}"
        )
    return times[num_inference_steps - kept :]


def flow_timesteps(
    schedule: Schedule, num_inference_steps: int, strength: float = 1.0, *, spacing: Spacing | None = None
) -> Tensor:
    """N times on a flow, falling, as diffusers' flow schedulers lay them out; float64.

    "trailing" spreads them evenly over tau from `spacing.first`, mostly 1, to 1 / N of it, "linspace" from 1 to
    `spacing.least`; the shift of the schedule turns tau into sigma. "angles" spreads them evenly over TrigFlow's angle,
    whose tangent is sigma / alpha, and two of them are pi / 2 and 1.3 (SANA-Sprint, 2503.09641).

    With a terminal sigma, 1 - sigma is scaled so that the last one is that; a single time stays pure noise (diffusers
    divides 0 by 0 there).

    Strength below 1 keeps the last part of them: N - int(N - N strength), so never none, and of one step the whole
    (the picture-to-picture pipelines of SD3 and FLUX).

    Raises ValueError for fewer steps than one, for another spacing, and for a strength outside (0, 1].
    """
    spacing, num = spacing or Spacing("trailing"), num_inference_steps
    if num < 1:
        raise ValueError(f"the number of steps must be 1 or more; got {num}")
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must lie in (0, 1]; got {strength}")
    if spacing.kind == "trailing":
        times = schedule.at(torch.linspace(spacing.first, spacing.first / num, num, dtype=torch.float64))
    elif spacing.kind == "linspace":
        times = schedule.at(torch.linspace(1.0, spacing.least, num, dtype=torch.float64))
    elif spacing.kind == "angles":
        half = math.pi / 2
        angles = torch.tensor([half, 1.3] if num == 2 else [half * i / num for i in range(num, 0, -1)]).double()
        times = schedule.last * angles.sin() / (angles.sin() + angles.cos())
    else:
        raise ValueError(f"the times of a flow are spaced by trailing, linspace or angles; got {spacing.kind!r}")
    if spacing.terminal is not None and num > 1:
        alpha = schedule.alpha(times)
        times = schedule.last * (1.0 - alpha * (1.0 - spacing.terminal) / alpha[-1])
    return times[int(max(num - min(num * strength, num), 0)) :]


def spaced(total: int, num: int, spacing: str, steps_offset: int, multistep: bool) -> Tensor:
    """(num,) int64 of the times 0 .. total - 1, falling, as diffusers' DDIMScheduler spaces them (2305.08891, table 2).

    steps_offset  is added to "leading" only
    multistep     as its DPMSolverMultistepScheduler does it, which drops the last of num + 1 times but for "trailing"
    """
    more = int(multistep and spacing != "trailing")
    if not 1 <= num <= total - more:
        raise ValueError(f"the number of steps must lie in 1 .. {total - more}; got {num}")
    if spacing == "trailing":
        stride = total - (total - total / num)  # total / num as numpy's arange rounds it: it decides ties
        times = [round(total - i * stride) - 1 for i in range(num)]
    elif spacing == "leading":
        times = [i * (total // (num + more)) + steps_offset for i in reversed(range(more, num + more))]
    elif spacing == "linspace":
        times = [round(i * ((total - 1) / max(num + more - 1, 1))) for i in reversed(range(more, num + more))]
    else:
        raise ValueError(f"unknown spacing {spacing!r}; allowed are {', '.join(SPACINGS)}")
    if times[0] >= total:
        raise ValueError(f"steps_offset {steps_offset} moves the first time to {times[0]}, past {total - 1}")
    return torch.tensor(times, dtype=torch.int64)


def _portion(num: int, strength: float) -> int:
    """floor(num * strength), but 29 for 50 * 0.58, which a float makes 28.999..."""
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must lie in (0, 1]; got {strength}")
    return math.floor(num * strength + 1e-9)
