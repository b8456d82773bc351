"""OFT and BOFT: rotated outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class OftLayer(Change):
    """Rotated outputs, (R - 1) W, with R made of blocks by Cayley's formula (2306.07280); BOFT (2311.06243) has several
    such rotations, one after the other, of outputs ever farther apart.

    blocks      (blocks, size, size); for BOFT (rotations, blocks, size, size)
    constraint  what the norm of the blocks may be at most, for each output; 0: anything
    rescale     (out, 1, …): what every output is multiplied by afterwards
    """

    blocks: Tensor
    constraint: float = 0.0
    rescale: Tensor | None = None

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        if (blocks := layer.tensors.get("oft_blocks")) is None:
            return None
        square = blocks.ndim in (3, 4) and blocks.shape[-1] == blocks.shape[-2]
        if not square or (blocks.ndim == 4 and blocks.shape[-1] % 2):
            raise layer.damaged(f"the oft_blocks of {layer.name} are no square blocks")
        return cls(blocks, layer.alpha or 0.0, layer.tensors.get("rescale"))

    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        if spelling != "kohya":
            return None
        rescale = {} if self.rescale is None else {"rescale": self.rescale}
        return {"oft_blocks": self.blocks, "alpha": torch.tensor(self.constraint)} | rescale

    @property
    def kind(self) -> str:
        return "OFT" if self.blocks.ndim == 3 else "BOFT"

    @property
    def rank(self) -> int:
        return self.blocks.shape[-1]

    @property
    def needs_weight(self) -> bool:
        return True

    def fitted(self, shape: Size) -> Self | None:
        rescaled = self.rescale is None or self.rescale.numel() == shape[0]
        return self if self.blocks.shape[-3] * self.rank == shape[0] and rescaled else None

    def delta(self, weight: Tensor) -> Tensor:
        skew = self.blocks.float()
        skew = skew - skew.mT
        if self.constraint > 0:
            limit = self.constraint * len(weight)
            skew = skew * min(1.0, limit / (float(skew.norm()) + 1e-8))
        one = torch.eye(self.rank)
        rotations = (one + skew) @ torch.linalg.inv(one - skew)
        rotated = weight.float()
        if rotations.ndim == 3:
            rotated = torch.einsum("knm,kn...->km...", rotations, rotated.unflatten(0, (-1, self.rank))).flatten(0, 1)
        else:
            for stage, rotation in enumerate(rotations):
                near = 2**stage * self.rank // 2
                rotated = (
                    rotated.unflatten(0, (-1, 2, near)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, self.rank))
                )
                rotated = torch.einsum("bij,bj...->bi...", rotation, rotated).flatten(0, 1)
                rotated = rotated.unflatten(0, (-1, near, 2)).transpose(1, 2).flatten(0, 2)
        if self.rescale is not None:
            rotated = rotated * self.rescale.float().reshape(-1, *[1] * (weight.ndim - 1))
        return rotated - weight.float()
