"""The kinds of adapters, and the change that a layer's tensors in a file mean."""

from __future__ import annotations

from collections.abc import Callable

from fewstep.models.adapters.lora.kinds.base import Change, LayerInFile
from fewstep.models.adapters.lora.kinds.dora import DoraLayer
from fewstep.models.adapters.lora.kinds.full import FullLayer
from fewstep.models.adapters.lora.kinds.input_oft import InputOftLayer
from fewstep.models.adapters.lora.kinds.loha import LohaLayer
from fewstep.models.adapters.lora.kinds.lokr import LokrLayer
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.kinds.oft import OftLayer

# Each gives the change that a layer's tensors mean, None where they are of another kind, or raises `InvalidModel`.
KINDS: tuple[Callable[[LayerInFile], Change | None], ...] = (
    LoraLayer.read,
    OftLayer.read,
    InputOftLayer.read,
    FullLayer.read,
    LohaLayer.read,
    LokrLayer.read,
)


def read_change(layer: LayerInFile) -> Change:
    """The change that a layer's tensors mean, with the length of DoRA on top where the file has one.

    Raises `InvalidModel` where some are missing, of no shape that belongs together, or not finite.
    """
    alpha = layer.tensors.get("alpha")
    if alpha is not None and (alpha.numel() != 1 or not alpha.isfinite().all()):
        raise layer.damaged(f"{layer.name} has an alpha that is no number")
    if any(not tensor.numel() or (not tensor.ndim and name != "alpha") for name, tensor in layer.tensors.items()):
        raise layer.damaged(f"{layer.name} has a tensor without numbers")
    change = next((change for read in KINDS if (change := read(layer)) is not None), None)
    if change is None:
        raise layer.damaged(f"{layer.name} has only {', '.join(sorted(layer.tensors))}")
    return DoraLayer.on(change, layer)
