"""The times at which a network is asked: the grid that a consistency model is distilled on and the walks over it, the
phases of a phased one (PCM, Wang et al. 2024, 2405.18407), and how the times of an ODE are spread.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPACINGS = ("trailing", "leading", "linspace")


def training_grid(num_train_timesteps: int = 1000, num: int = 50) -> Tensor:
    """The times that a consistency model is distilled on, rising: k i - 1 for i = 1 .. num, k = T // num.

    (num,) int64; 19, 39, .., 999 for the defaults. (LCM: Luo et al. 2023, 2310.04378, sec. 4.3.)
    """
    if not 1 <= num <= num_train_timesteps:
        raise ValueError(f"a grid over {num_train_timesteps} times has 1 .. {num_train_timesteps} points; got {num}")
    return torch.arange(1, num + 1) * (num_train_timesteps // num) - 1


def consistency_timesteps(
    num_inference_steps: int,
    strength: float = 1.0,
    *,
    original_inference_steps: int = 50,
    num_train_timesteps: int = 1000,
) -> Tensor:
    """N times for a consistency model, falling: even indices into the first `strength` of its training grid.

    (N,) int64. Four steps are 999, 759, 499, 259; at strength 0.5 they are 499, 379, 259, 139.
    Raises ValueError when that part of the grid has fewer than N times.
    """
    grid = training_grid(num_train_timesteps, original_inference_steps)
    part = grid[: _portion(original_inference_steps, strength)].flip(0)
    if not 1 <= num_inference_steps <= len(part):
        raise ValueError(
            f"{num_inference_steps} steps at strength {strength:g} do not fit: of the grid of "
            f"{original_inference_steps} times that leaves {len(part)}. Ask for fewer steps or more strength"
        )
    stride = len(part) / num_inference_steps  # a float, so that its cuts are those of diffusers
    return part[[math.floor(i * stride) for i in range(num_inference_steps)]]


def phase_ends(phases: int, *, original_inference_steps: int = 50, num_train_timesteps: int = 1000) -> Tensor:
    """The times at which the phases of a phased consistency model end, rising: 0, 239, 499, 739 for four of them.

    (phases,) int64. A sample at t belongs to the phase with the last end below t (PCM, 2405.18407, sec. 3.1).
    """
    if not 1 <= phases <= original_inference_steps:
        raise ValueError(
            f"the phases must be 1 .. {original_inference_steps}, one of the grid's times each; got {phases}"
        )
    k = num_train_timesteps // original_inference_steps
    ends = [max(original_inference_steps * i // phases * k - 1, 0) for i in range(phases)]
    return torch.tensor(ends, dtype=torch.int64)


def phased_timesteps(
    num_inference_steps: int,
    phases: int,
    *,
    original_inference_steps: int = 50,
    num_train_timesteps: int = 1000,
) -> Tensor:
    """N times for a phased consistency model, falling, with every phase's start among them where N allows it.

    (N,) int64. For N = phases they are the starts themselves (999, 739, 499, 239), so that every step goes where the
    model was trained to go; more steps divide the noisiest phases further, fewer skip starts and cross ends.
    """
    sizes = {"original_inference_steps": original_inference_steps, "num_train_timesteps": num_train_timesteps}
    k = num_train_timesteps // original_inference_steps
    ends = [*phase_ends(phases, **sizes).tolist(), original_inference_steps * k - 1]
    starts = ends[:0:-1]
    if num_inference_steps <= phases:
        return torch.tensor([starts[i * phases // num_inference_steps] for i in range(num_inference_steps)])
    times: list[int] = []
    for index, (start, end) in enumerate(zip(starts, ends[-2::-1], strict=True)):
        share = num_inference_steps // phases + (index < num_inference_steps % phases)
        points = max((start - end) // k, 1)
        if share > points + (end == 0):
            raise ValueError(
                f"{num_inference_steps} steps do not fit a grid of {original_inference_steps} in {phases} phases"
            )
        times += [start - i * points // share * k for i in range(share)]
    return torch.tensor(times)


def ode_timesteps(
    num_inference_steps: int,
    strength: float = 1.0,
    *,
    spacing: str = "trailing",
    num_train_timesteps: int = 1000,
    steps_offset: int = 0,
    multistep: bool = False,
) -> Tensor:
    """N times for an ODE solver, falling, spaced as diffusers' DDIMScheduler does it (2305.08891, table 2).

    (int(N strength),) int64: strength below 1 keeps the last part. `steps_offset` is added to "leading" only.
    multistep: as its DPMSolverMultistepScheduler does it, which drops the last of N + 1 times but for "trailing".
    Raises ValueError when N is outside 1 .. T or the strength leaves no step.
    """
    total, num = num_train_timesteps, num_inference_steps
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
    kept = _portion(num, strength)
    if kept == 0:
        raise ValueError(f"strength {strength:g} leaves none of {num} steps; it must be at least {1 / num:g}")
    return torch.tensor(times[num - kept :], dtype=torch.int64)


def _portion(num: int, strength: float) -> int:
    """floor(num * strength), but 29 for 50 * 0.58, which a float makes 28.999..."""
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must lie in (0, 1]; got {strength}")
    return math.floor(num * strength + 1e-9)
