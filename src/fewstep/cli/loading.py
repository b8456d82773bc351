"""A model for a command that runs once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Unpack

from fewstep.lazily import uncollected

if TYPE_CHECKING:
    from fewstep.cli.options import LoadOptions
    from fewstep.models.model import Model


def load_model(name: str, **how: Unpack[LoadOptions]) -> Model:
    """`fewstep.load`; what the imports made until now is never looked at by the collector, not even at the end."""
    with uncollected():
        from fewstep.models.loading import load

        model = load(name, **how)
    gc.freeze()
    return model
