"""A network with other modules or tensors in some places, beside the one that it is made of, which stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Self, TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
Part = nn.Module | Tensor


def rebuilt(network: Network, instead: Mapping[Part, Part] | None = None) -> Network:
    """A network of its own that shares all tensors with `network`, and has others `instead` of some of its parts.

    Only what is changed takes memory. A device to which one of the two is moved has the tensors of both.
    """
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    others = {id(part): other for part, other in (instead or {}).items()}
    return copy.deepcopy(network, {**shared, **others})


class KeptWhole:
    """What stays one object where a network that holds it is rebuilt."""

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
