"""The sampling loops, as generators: they yield every step, and whoever iterates may look, show or stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from fewstep.core.prediction import Denoise
from fewstep.core.schedule import CLEAN, Schedule, broadcast
from fewstep.core.solvers import Solver, transfer


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


def sample_consistency(
    f: Denoise,
    schedule: Schedule,
    x_T: Tensor,
    timesteps: Sequence[int] | Tensor,
    cond: Any,
    w: float | Tensor | None = None,
    noise: Callable[[int], Tensor] | None = None,
) -> Iterator[Step]:
    """Multistep consistency sampling (LCM, 2310.04378, Algorithm 3): x_0 = f(x_t, t), then noise up to s.

    x_T        (B, ...): a sample at timesteps[0], for example unit noise at the last time of the schedule
    timesteps  falling; for an LCM, `consistency_timesteps`
    noise      noise(index) -> fresh unit noise like x_T, asked for after step `index`, never after the last

    Raises ValueError for times that do not fall, or when several steps have no noise to draw.
    """
    times = _falling(timesteps)
    if noise is None and len(times) > 1:
        raise ValueError(f"consistency sampling in {len(times)} steps draws noise between them: pass `noise`")
    x_t = x_T
    for index, (t, s) in enumerate(pairwise([*times, CLEAN])):
        x0 = f(x_t, t, cond, w)
        x_t = x0 if s == CLEAN or noise is None else schedule.add_noise(x0, noise(index), s)
        yield Step(index, len(times), s, x_t, x0)


def sample_trajectory(
    denoise: Denoise,
    schedule: Schedule,
    x_T: Tensor,
    timesteps: Sequence[int] | Tensor,
    cond: Any,
    w: float | Tensor | None = None,
    noise: Callable[[int], Tensor] | None = None,
    *,
    gamma: float = 0.3,
    final_timestep: int = 0,
) -> Iterator[Step]:
    """Strategic stochastic sampling (TCD, 2402.19159, Algorithm 4), for models that know where trajectories pass.

    On the way from t to s it steps down to floor((1 - gamma) s) and adds fresh noise up to s: gamma 0 draws none and
    follows the trajectory (PCM), gamma 1 is nearly `sample_consistency`.

    denoise         estimates x_0; the steps along the trajectory are taken here
    final_timestep  where the last step ends; 0 in diffusers' TCDScheduler

    Raises ValueError for times that do not fall, gamma outside [0, 1], or when there is no noise to draw.
    """
    times = _falling(timesteps)
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must lie in [0, 1]; got {gamma}")
    if noise is None and gamma > 0 and len(times) > 1:
        raise ValueError(f"gamma {gamma:g} in {len(times)} steps draws noise between them: pass `noise`")
    x_t = x_T
    for index, (t, s) in enumerate(pairwise([*times, final_timestep])):
        x0 = denoise(x_t, t, cond, w)
        last = index == len(times) - 1
        below = s if last or noise is None else math.floor((1.0 - gamma) * s)
        x_t = transfer(schedule, x_t, x0, t, below) if below < t else x_t
        if noise is not None and below < s:
            ratio = schedule.alpha(s) / schedule.alpha(below)
            spread = (schedule.sigma(s) ** 2 - (ratio * schedule.sigma(below)) ** 2).sqrt()
            x_t = broadcast(ratio, x_t) * x_t + broadcast(spread, x_t) * noise(index)
        yield Step(index, len(times), s, x_t, x0)


def sample_ode(
    solver: Solver,
    denoise: Denoise,
    x_T: Tensor,
    timesteps: Sequence[int] | Tensor,
    cond: Any,
    *,
    final_timestep: int = CLEAN,
) -> Iterator[Step]:
    """Follow the probability flow from timesteps[0] through the others to `final_timestep`; draws no noise.

    final_timestep: -1 ends on clean data, 0 at the first time (`set_alpha_to_one=False` in diffusers).
    Raises ValueError for times that do not fall, or that end below `final_timestep`.
    """
    times = _falling(timesteps)
    if final_timestep > times[-1]:
        raise ValueError(f"final_timestep {final_timestep} lies above the last timestep, {times[-1]}")
    x_t, state = x_T, solver.init()
    for index, (t, s) in enumerate(pairwise([*times, final_timestep])):
        x_t, state = solver.step(denoise, x_t, t, s, cond, state)
        yield Step(index, len(times), s, x_t, state.x0)


def _falling(timesteps: Sequence[int] | Tensor) -> list[int]:
    times = [int(t) for t in timesteps]
    if not times:
        raise ValueError("no timesteps were given; sampling takes at least one")
    if times[-1] < 0 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(f"timesteps must fall, each below the one before, and end at 0 or above; got {times}")
    return times
