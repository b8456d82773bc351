"""LoKr: a Kronecker product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile, shapes_for
from fewstep.models.adapters.lora.kinds.product import product, product_shape
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class LokrLayer(Change):
    """scale * kron(w1, w2) (LyCORIS, 2309.14859); either may be a product of two matrices, and w2's have a core.

    w1  (out1, in1), or w1_a (out1, rank) @ w1_b (rank, in1)
    w2  (out2, in2[, h, w]), or w2_a (out2, rank) @ w2_b (rank, in2 * h * w), or with a core t2 (rank, rank, h, w):
        w2_a (rank, out2), w2_b (rank, in2)

    What has no rank is scaled by PEFT alone, by the rank of its config; LyCORIS leaves it as it is.
    """

    scale: float
    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    kind = "LoKr"

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        factors = layer.factors("lokr_")
        if not all(each in factors or {f"{each}_a", f"{each}_b"} <= set(factors) for each in ("w1", "w2")):
            return None
        change = cls(1.0, **factors)
        rank = layer.config.rank if change.rank is None else change.rank
        return change if rank is None else cls(layer.scale(rank), **factors)

    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        if spelling != "kohya":
            return None
        tensors = {f"lokr_{name}": factor for name, factor in self.factors.items()}
        if self.rank is None:  # LyCORIS scales only what has a rank
            tensors["lokr_w1"] = self.scale * tensors["lokr_w1"]
        return tensors | {"alpha": torch.tensor(self.scale * (self.rank or 1))}

    @property
    def rank(self) -> int | None:
        factored = self.w1_b if self.w1_b is not None else self.w2_b
        return None if factored is None else len(factored)

    @property
    def inputs(self) -> int | None:
        return self._shape[1] if self._shape else None

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape of the product; empty where it has none."""
        one = tuple(self.w1.shape) if self.w1 is not None else product_shape(self.w1_a, self.w1_b, None)
        two = tuple(self.w2.shape) if self.w2 is not None else product_shape(self.w2_a, self.w2_b, self.t2)
        return (one[0] * two[0], one[1] * two[1], *two[2:]) if len(one) == 2 and len(two) >= 2 else ()

    def fitted(self, shape: Size) -> Self | None:
        return self if self._shape in shapes_for(shape) else None

    def delta(self, weight: Tensor) -> Tensor:
        one = self.w1 if self.w1 is not None else product(self.w1_a, self.w1_b, None)
        two = self.w2 if self.w2 is not None else product(self.w2_a, self.w2_b, self.t2)
        one = one.reshape(*one.shape, *[1] * (two.ndim - one.ndim))
        return self.scale * torch.kron(one, two.contiguous()).reshape(weight.shape)
