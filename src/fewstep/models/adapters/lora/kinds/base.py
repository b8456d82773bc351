"""What every kind of adapter is to one layer, W: W + share * delta(W), for a share in [-10, 10].

LyCORIS and PEFT agree on the deltas at a share of 1. Those of OFT, BOFT and DoRA depend on W; their other shares lie on
the line from W through W + delta, as ComfyUI and AUTOMATIC1111's web UI have it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, Self

from torch import Size, Tensor

from fewstep.errors import InvalidModel
from fewstep.models.adapters.lora.names import Spelling
from fewstep.models.adapters.lora.peft_config import PeftConfig
from fewstep.models.rebuilt import KeptWhole


class LowRank(Protocol):
    """alpha / rank * up @ down, as a LoRA has it."""

    @property
    def down(self) -> Tensor: ...

    @property
    def up(self) -> Tensor: ...

    @property
    def alpha(self) -> float: ...

    @property
    def rank(self) -> int: ...


@dataclass(frozen=True, eq=False)
class LayerInFile:
    """The tensors of one layer in an adapter's file, by the names of `LoraKey.tensor`."""

    name: str
    tensors: Mapping[str, Tensor]
    config: PeftConfig
    file: Path

    @property
    def alpha(self) -> float | None:
        """Of the layer itself; None where the file has none."""
        alpha = self.tensors.get("alpha")
        return None if alpha is None else float(alpha)

    def scale(self, rank: int) -> float:
        """alpha / rank; an alpha of zero means the rank, as LyCORIS has it."""
        return (self.config.alpha_of(self.name, rank) if self.alpha is None else self.alpha or rank) / rank

    def factors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, without that."""
        return {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}

    def damaged(self, why: str) -> InvalidModel:
        return InvalidModel(f"{self.file} is damaged: {why}")


@dataclass(frozen=True, eq=False)
class Change(KeptWhole, ABC):
    """The change of one layer, as a file holds it; fields that are tensors are the file's own."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What people call it: "LoRA", "LoHa", …"""

    @property
    def rank(self) -> int | None:
        """The rank, or the size of its blocks; None where there is no such thing."""
        return None

    @property
    def inputs(self) -> int | None:
        """How many inputs its layer has; None where it does not tell."""
        return None

    @property
    def needs_weight(self) -> bool:
        """Whether `delta` depends on the weight that it changes, and not on its shape alone."""
        return False

    @property
    def factors(self) -> Mapping[str, Tensor]:
        """Its tensors, by the names of its fields."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def num_parameters(self) -> int:
        return sum(each.numel() for each in self.factors.values())

    @property
    def lora(self) -> LowRank | None:
        """The LoRA that it is, or that its DoRA lies on; None of other kinds."""
        return None

    @abstractmethod
    def written(self, spelling: Spelling) -> dict[str, Tensor] | None:
        """Its tensors, by the names that `write_key` takes; None where the spelling has no names for its kind."""

    @abstractmethod
    def fitted(self, shape: Size) -> Self | None:
        """Itself, shaped for a weight of that shape, (out, in) or (out, in, h, w); None where it does not fit."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight` at a share of 1, of its shape; computed in the precision of the factors."""


def shapes_for(shape: Size) -> set[tuple[int, ...]]:
    """The shapes in which files have a weight: its own, with its kernel behind the inputs, and with a kernel of one."""
    same = {tuple(shape), (shape[0], prod(shape[1:]))}
    return same | {(*shape, 1, 1)} if len(shape) == 2 else same
