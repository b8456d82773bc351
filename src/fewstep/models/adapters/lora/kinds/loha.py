"""LoHa: the elementwise product of two products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile, shapes_for
from fewstep.models.adapters.lora.kinds.product import product, product_shape
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class LohaLayer(Change):
    """scale * (w1_a @ w1_b) ∘ (w2_a @ w2_b) (FedPara, 2108.06098).

    w1_a, w2_a  (out, rank), with w1_b, w2_b (rank, in * h * w); or with cores t1, t2 (rank, rank, h, w): (rank, out),
                with (rank, in)
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    scale: float
    t1: Tensor | None = None
    t2: Tensor | None = None
    kind = "LoHa"

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        factors = layer.factors("hada_")
        if not {"w1_a", "w1_b", "w2_a", "w2_b"} <= set(factors):
            return None
        return cls(scale=layer.scale(len(factors["w1_b"])), **factors)

    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        if spelling != "kohya":
            return None
        factors = {f"hada_{name}": factor for name, factor in self.factors.items()}
        return factors | {"alpha": torch.tensor(self.scale * self.rank)}

    @property
    def rank(self) -> int:
        return len(self.w1_b)

    @property
    def inputs(self) -> int:
        return self.w1_b.shape[1]

    def fitted(self, shape: Size) -> Self | None:
        halves = ((self.w1_a, self.w1_b, self.t1), (self.w2_a, self.w2_b, self.t2))
        return self if all(product_shape(*half) in shapes_for(shape) for half in halves) else None

    def delta(self, weight: Tensor) -> Tensor:
        one, two = product(self.w1_a, self.w1_b, self.t1), product(self.w2_a, self.w2_b, self.t2)
        return self.scale * (one * two).reshape(weight.shape)
