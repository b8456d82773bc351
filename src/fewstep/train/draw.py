"""What is random about a batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Draw:
    """All that is random about a batch, on the CPU: drawn for the whole batch, and divided among processes afterwards.

    rows, captions  (B,) int64: the pictures, and the text states that were drawn for them
    times           (B,) int64: t itself, or its place on the grid
    noise           (B, C, h, w) unit noise
    w               (B,) guidance in LCM's form
    share           (B,) in [0, 1): how far down from the target's time a trajectory ends
    asked           (B,) bool: whether the lesson of a single step (`one_step`) is given, too
    """

    rows: Tensor
    captions: Tensor
    times: Tensor
    noise: Tensor
    w: Tensor | None = None
    share: Tensor | None = None
    asked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Draw:
        return Draw(**{name: tensor[part] for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: tensor for name, tensor in fields.items() if tensor is not None}


def draw_w(w_range: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    """(count,) uniformly from the range."""
    low, high = w_range
    return low + (high - low) * torch.rand(count, generator=generator)


def told_w(w_range: tuple[float, float], draw: Draw, device: torch.device | str) -> float | Tensor:
    """What was drawn, or the number 0 where there is no guidance, which spends no second call of the teacher."""
    assert draw.w is not None
    return 0.0 if w_range == (0.0, 0.0) else draw.w.to(device)
