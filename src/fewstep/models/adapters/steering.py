"""What steers a model by pictures: what every kind of adapter of that sort does, and what it needs of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from fewstep.models.families.base import Inputs
from fewstep.models.traits import Control

if TYPE_CHECKING:
    from fewstep.models.conditioning import Conditioning


class Steering(Protocol):
    """The adapters of one kind, in their order."""

    @property
    def names(self) -> tuple[str, ...]:
        """What requests call them by."""
        ...

    @property
    def readers(self) -> Sequence[nn.Module]:
        """The networks that read pictures once, when the words are read."""
        ...

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The networks that run before the model's own, at every step."""
        ...

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None],
        device: torch.device,
        *,
        away: bool,
    ) -> Conditioning:
        """`cond` with what its rows follow: a picture for each of the adapters, or None.

        height, width  of the picture that is made
        away           whether guidance leads away from these rows
        """
        ...

    def steered(self, inputs: Inputs, cond: Conditioning) -> Inputs:
        """The inputs of the model's network, with what makes it follow the pictures of `cond`."""
        ...


def scales_of(controls: Sequence[Control | None]) -> Tensor:
    """(1, adapters)."""
    return torch.tensor([[0.0 if control is None else control.scale for control in controls]])
