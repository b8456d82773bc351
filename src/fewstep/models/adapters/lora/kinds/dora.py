"""DoRA: the length of what another kind changes, learnt apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Size, Tensor

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile, LowRank
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.names import Spelling


@dataclass(frozen=True, eq=False)
class DoraLayer(Change):
    """W + delta, brought to a length that was learnt apart: magnitude * (W + delta) / |W + delta| (2402.09353).

    magnitude  (out, 1, …), the length of every output's weights; or (1, in, …), of every input's, as older LyCORIS
    """

    inner: Change
    magnitude: Tensor

    @staticmethod
    def on(change: Change, layer: LayerInFile) -> Change:
        """The change with the length that the file has for its layer; itself where there is none."""
        if (vector := layer.tensors.get("lora_magnitude_vector")) is not None:
            return DoraLayer(change, vector.reshape(-1, 1))
        if (magnitude := layer.tensors.get("dora_scale")) is not None:
            return DoraLayer(change, magnitude if magnitude.ndim > 1 else magnitude.reshape(-1, 1))
        return change

    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        inner, flat = self.inner.written(spelling), self.magnitude.flatten()
        if inner is None:
            return None
        if self.lora is None or self.by_input:  # names that only LyCORIS has
            return inner | {"dora_scale": self.magnitude} if spelling == "kohya" else None
        if spelling == "kohya":
            return inner | {"dora_scale": flat.reshape(-1, *[1] * (self.lora.down.ndim - 1))}
        # as PEFT has it: of a linear layer flat, of a convolution along its inputs' place
        return inner | {"lora_magnitude_vector": flat if self.lora.down.ndim == 2 else flat.reshape(1, -1, 1, 1)}

    @property
    def lora(self) -> LowRank | None:
        return self.inner.lora

    @property
    def kind(self) -> str:
        return "DoRA" if isinstance(self.inner, LoraLayer) else f"{self.inner.kind} with DoRA"

    @property
    def rank(self) -> int | None:
        return self.inner.rank

    @property
    def inputs(self) -> int | None:
        return self.inner.inputs

    @property
    def needs_weight(self) -> bool:
        return True

    @property
    def factors(self) -> Mapping[str, Tensor]:
        return {**self.inner.factors, "magnitude": self.magnitude}

    @property
    def by_input(self) -> bool:
        return self.magnitude.ndim > 1 and self.magnitude.shape[0] == 1 and self.magnitude.shape[1] > 1

    def fitted(self, shape: Size) -> Self | None:
        inner = self.inner.fitted(shape)
        lengths = shape[1] if self.by_input else shape[0]
        return None if inner is None or self.magnitude.numel() != lengths else dataclasses.replace(self, inner=inner)

    def delta(self, weight: Tensor) -> Tensor:
        changed = weight.float() + self.inner.delta(weight).float()
        rest = [dim for dim in range(weight.ndim) if dim != (1 if self.by_input else 0)]
        length = torch.linalg.vector_norm(changed, dim=rest, keepdim=True) + torch.finfo(torch.float32).eps
        return changed * (self.magnitude.float().reshape(length.shape) / length) - weight.float()
