"""Adapters inside a model: stacked, and weighed anew for every row of every batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewstep.errors import InvalidRequest
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.layer import Shares
from fewstep.models.adapters.lora.source import check_weight
from fewstep.models.families import denoisers

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class LoraStack:
    """The adapters in a bundle's networks, in their order.

    names    what requests call them by
    weights  how much of each where a request says nothing
    """

    names: tuple[str, ...] = ()
    files: tuple[LoraFile, ...] = ()
    weights: tuple[float, ...] = ()
    shares: Shares = field(default_factory=Shares)

    def plus(self, file: LoraFile, weight: float) -> LoraStack:
        """With one more, for networks of its own."""
        name = file.name if file.name not in self.names else f"{file.name}-{len(self.names) + 1}"
        return LoraStack((*self.names, name), (*self.files, file), (*self.weights, weight))

    @property
    def reads_text(self) -> bool:
        """Whether one of them changes a text encoder, so that a prompt means something else under another weight."""
        return any(part not in denoisers() for file in self.files for part in file.layers)

    @property
    def makes_few_step(self) -> bool:
        """Whether an LCM-LoRA is among them."""
        return any(file.kind == "lcm" for file in self.files)

    def weigh(self, wanted: Mapping[str, float] | None) -> tuple[float, ...]:
        """All weights, from those that a request names; raises `InvalidRequest`."""
        if unknown := sorted(set(wanted or ()) - set(self.names)):
            raise InvalidRequest(f"no LoRA {unknown[0]!r} here; loaded are {', '.join(self.names)}")
        return tuple(
            check_weight(name, (wanted or {}).get(name, default))
            for name, default in zip(self.names, self.weights, strict=True)
        )

    def rows(self, weights: Sequence[float], n: int) -> Tensor:
        """The weights (by default those of the stack) for `n` rows alike, (n, adapters)."""
        return torch.tensor([tuple(weights) or self.weights], dtype=torch.float32).expand(n, -1)

    @contextmanager
    def applied(self, weights: Tensor | None, device: torch.device) -> Iterator[None]:
        """Run a network on `device` with `weights` (B, adapters) for the rows of its batch; None: as by default."""
        rows = self.rows((), 1) if weights is None else weights
        alike = bool((rows == rows[:1]).all())
        self.shares.now = rows[0].tolist() if alike else list(rows.to(device).unbind(1))
        yield
