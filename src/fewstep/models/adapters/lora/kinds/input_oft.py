"""PEFT's OFT: rotated inputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class InputOftLayer(Change):
    """Rotated inputs, W (R - 1)ᵀ, as PEFT has OFT.

    triangles  (blocks, size (size - 1) / 2): what is above the diagonals of skew-symmetric matrices; one block may be
               shared by all inputs
    terms      how many of the series that stands for Cayley's inverse; 0: the inverse itself
    """

    triangles: Tensor
    terms: int = 5
    kind = "OFT"

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        if (triangles := layer.tensors.get("oft_R")) is None:
            return None
        rotation = cls(triangles, layer.config.terms) if triangles.ndim == 2 else None
        if rotation is None or rotation.rank * (rotation.rank - 1) != 2 * triangles.shape[1]:
            raise layer.damaged(f"the oft_R of {layer.name} are no triangles of square blocks")
        return rotation

    def written(self, spelling: Spelling) -> None:
        """PEFT's names for it are not written."""

    @property
    def rank(self) -> int:
        return round((1 + (1 + 8 * self.triangles.shape[1]) ** 0.5) / 2)

    @property
    def needs_weight(self) -> bool:
        return True

    def fitted(self, shape: Size) -> Self | None:
        inputs = prod(shape[1:])
        return self if len(self.triangles) * self.rank == inputs or self._shared(inputs) else None

    @property
    def _series(self) -> list[float]:
        """PEFT's coefficients of the powers from the first on: 1 + 2 Q + 2 Q² + … + Qⁿ."""
        return [2.0] * (self.terms - 1) if self.terms < 3 else [*[2.0] * max(2, self.terms - 2), 1.0]

    def _shared(self, inputs: int) -> bool:
        return len(self.triangles) == 1 and inputs % self.rank == 0

    def delta(self, weight: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.rank, self.rank, 1)
        skew = torch.zeros(len(self.triangles), self.rank, self.rank)
        skew[:, rows, columns] = self.triangles.float()
        skew = skew - skew.mT
        one = torch.eye(self.rank)
        if self.terms:
            rotation = one.repeat(len(skew), 1, 1)
            for power, times in enumerate(self._series, start=1):
                rotation = rotation + times * torch.matrix_power(skew, power)
        else:
            rotation = (one - skew) @ torch.linalg.inv(one + skew)
        flat = weight.float().flatten(1)
        turned = torch.einsum("obk,bck->obc", flat.unflatten(1, (-1, self.rank)), rotation)
        return (turned.flatten(1) - flat).reshape(weight.shape)
