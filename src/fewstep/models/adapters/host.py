"""`Host`: what adapters need to know of the model that they are put on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import torch
from torch import nn

from fewstep.models.adapters.record import Adapters
from fewstep.models.traits import Traits


class Host(Protocol):
    """A model, or another with the same parts."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def text_width(self) -> int:
        """The width of the text states that the denoising network reads."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that adapters may change, by the folders that they lie in."""
        ...

    @property
    def adapters(self) -> Adapters: ...

    def with_networks(self, networks: Mapping[str, nn.Module], adapters: Adapters) -> Self:
        """The same model with other `networks`, and the adapters in them and beside them."""
        ...
