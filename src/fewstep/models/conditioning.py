"""What the words become: the tensors that a denoising network is conditioned on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts, one row each; `core` passes it through without looking inside.

    states    (B, L, D) the text encoder's token states
    pooled    (B, P) its pooled states, for networks that want them
    time_ids  (B, 6) sizes and crops, for networks of the SDXL kind
    """

    states: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def expand(self, n: int) -> Conditioning:
        """One row repeated `n` times, without copying."""
        return self._map(lambda x: x.expand(n, *x.shape[1:]))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """The same on another device, in another precision."""
        return self._map(lambda x: x.to(device=device, dtype=dtype))

    def clone(self) -> Conditioning:
        """The same values in memory of their own."""
        return self._map(torch.clone)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.states, self.pooled, self.time_ids) if x is not None)

    def __getitem__(self, rows: Tensor | slice) -> Conditioning:
        return self._map(lambda x: x[rows])

    @staticmethod
    def cat(parts: list[Conditioning]) -> Conditioning:
        """Stack batches; a field must be present in all of them or in none."""

        def stack(tensors: list[Tensor | None]) -> Tensor | None:
            present = [x for x in tensors if x is not None]
            if present and len(present) != len(tensors):
                raise ValueError("cannot stack conditionings of different kinds")
            return torch.cat(present) if present else None

        states = torch.cat([part.states for part in parts])
        return Conditioning(states, stack([p.pooled for p in parts]), stack([p.time_ids for p in parts]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        pooled = None if self.pooled is None else change(self.pooled)
        time_ids = None if self.time_ids is None else change(self.time_ids)
        return Conditioning(change(self.states), pooled, time_ids)
