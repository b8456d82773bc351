"""LoRA: the product of two thin matrices."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class LoraLayer(Change):
    """alpha / rank * up @ down (2106.09685).

    down, up  (rank, in) and (out, rank), or (rank, in, h, w) and (out, rank, 1, 1)
    """

    down: Tensor
    up: Tensor
    alpha: float
    kind = "LoRA"

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        down, up, middle = (layer.tensors.get(name) for name in ("down", "up", "mid"))
        if down is None and up is None:
            return None
        whole = down is not None and up is not None and down.ndim > 1 and up.ndim > 1 and len(down) == up.shape[1] > 0
        if not whole or (middle is not None and tuple(middle.shape[:2]) != (len(down),) * 2):  # type: ignore[arg-type]
            raise layer.damaged(f"{layer.name} needs a down and an up matrix of equal rank")
        assert down is not None
        assert up is not None
        if middle is not None:  # a core between them, as LyCORIS has it for convolutions: part of the way down
            down = torch.einsum("ij...,jc->ic...", middle.float(), down.float().flatten(1)).to(down.dtype)
        return cls(down, up, layer.config.alpha_of(layer.name, len(down)) if layer.alpha is None else layer.alpha)

    def written(self, spelling: Spelling) -> dict[str, Tensor]:
        alpha = {"alpha": torch.tensor(self.alpha)} if spelling == "kohya" else {}
        return {"down": self.down, "up": self.up} | alpha

    @property
    def lora(self) -> LoraLayer:
        return self

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def inputs(self) -> int:
        return self.down.shape[1]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def fitted(self, shape: Size) -> Self | None:
        """A layer for a 1x1 convolution also fits a linear one, and the other way."""
        if len(shape) == 4:
            kernel = shape[2:] if self.down.ndim == 2 else self.down.shape[2:]
            if self.down.numel() % (self.rank * prod(kernel)):
                return None
            down, up = self.down.reshape(self.rank, -1, *kernel), self.up.reshape(-1, self.rank, 1, 1)
            fits = down.shape[1:] == shape[1:] and len(up) == shape[0]
        else:
            down, up = self.down.flatten(1), self.up.flatten(1)
            fits = (len(up), down.shape[1]) == tuple(shape)
        return dataclasses.replace(self, down=down, up=up) if fits else None

    def delta(self, weight: Tensor) -> Tensor:
        return self.scale * torch.einsum("or,r...->o...", self.up.flatten(1), self.down)
