"""What the words become: the tensors that a denoising network is conditioned on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts, one row each; `core` passes it through without looking inside.

    states    (B, L, D) the text encoder's token states
    pooled    (B, P) its pooled states, for networks that want them
    mask      (B, L) bool: which of the token states count; None: all
    sizes     (B, n) the picture's sizes and crops, for networks that read them, as their family lays them out
    controls  (B, nets, 3, H, W) in [0, 1]: the pictures that ControlNets read, with control_scales (B, nets)
    image_tokens  (B, T, D): what IP-Adapters say of pictures, with image_scales (B, adapters)
    loras     (B, adapters) how much of each adapter a row takes; on the CPU, wherever the rest lies
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    controls: Tensor | None = None
    control_scales: Tensor | None = None
    image_tokens: Tensor | None = None
    image_scales: Tensor | None = None
    loras: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def expand(self, n: int) -> Conditioning:
        """One row repeated `n` times, without copying."""
        return self._map(lambda x: x.expand(n, *x.shape[1:]))

    def repeat(self, n: int) -> Conditioning:
        """All rows, `n` times over."""
        return self._map(lambda x: x.repeat(n, *[1] * (x.dim() - 1)))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """The same on another device, in another precision."""
        moved = self._map(lambda x: x.to(device=device, dtype=dtype))
        mask = None if self.mask is None else self.mask.to(device)
        return dataclasses.replace(moved, loras=self.loras, mask=mask)

    def clone(self) -> Conditioning:
        """The same values in memory of their own."""
        return self._map(torch.clone)

    @property
    def nbytes(self) -> int:
        return self.states.nbytes + sum(x.nbytes for x in self._beside().values() if x is not None)

    def __getitem__(self, rows: Tensor | slice[int, int, int | None]) -> Conditioning:
        return self._map(lambda x: x[rows])

    @staticmethod
    def cat(parts: list[Conditioning]) -> Conditioning:
        """Stack batches; a field must be present in all of them or in none."""
        fields: dict[str, Tensor | None] = {}
        for name in parts[0]._beside():
            tensors = [x for part in parts if (x := getattr(part, name)) is not None]
            if tensors and len(tensors) != len(parts):
                raise ValueError("cannot stack conditionings of different kinds")
            fields[name] = torch.cat(tensors) if tensors else None
        return Conditioning(torch.cat([part.states for part in parts]), **fields)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        beside = {name: None if x is None else change(x) for name, x in self._beside().items()}
        return Conditioning(change(self.states), **beside)

    def _beside(self) -> dict[str, Tensor | None]:
        """All but the states, by name."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "states"}
