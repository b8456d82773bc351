"""The phases of a phased consistency model (PCM, Wang et al. 2024, 2405.18407): their ends, and the times of steps."""

from __future__ import annotations

import torch
from torch import Tensor


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
