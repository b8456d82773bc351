"""A whole difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile, shapes_for
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class FullLayer(Change):
    """The difference itself, as LyCORIS calls it "full"."""

    diff: Tensor
    kind = "a full difference"

    @classmethod
    def read(cls, layer: LayerInFile) -> Self | None:
        return cls(layer.tensors["diff"]) if "diff" in layer.tensors else None

    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        return {"diff": self.diff} if spelling == "kohya" else None

    @property
    def inputs(self) -> int | None:
        return self.diff.shape[1] if self.diff.ndim > 1 else None

    def fitted(self, shape: Size) -> Self | None:
        return self if tuple(self.diff.shape) in shapes_for(shape) else None

    def delta(self, weight: Tensor) -> Tensor:
        return self.diff.reshape(weight.shape)
