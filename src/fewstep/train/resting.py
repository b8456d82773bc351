"""Encoders at rest: what only samples need is out of the way while the network learns.

Latents and text states are made once, before. Until the next sheet of samples the autoencoder and the text encoders lie
in the host's memory (CUDA), or in a file of the run's folder, of which the system keeps in memory what is read (CPU).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.files import write_tensors
from fewstep.models.memory import free_cache
from fewstep.models.model import Model

FILE = "encoders-at-rest-{rank}.safetensors"


class Resting:
    """The encoders of `model`, at rest but in `awake`; `keep` is where they may lie."""

    def __init__(self, model: Model, keep: Path) -> None:
        self.parts: dict[str, nn.Module] = {"autoencoder": model.autoencoder.module, **model.text.encoders}
        self.device, self.keep = model.device, keep
        self._kept_as = _first_names(self.parts)
        if self.device.type == "cpu":
            self._write()
        self._rest()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """For sampling: where the network is, as long as the block lasts; in the room that learning took."""
        free_cache(self.device)
        if self.device.type == "cuda":
            for part in self.parts.values():
                part.to(self.device)
        try:
            yield
        finally:
            self._rest()

    def _rest(self) -> None:
        if self.device.type == "cuda":
            for part in self.parts.values():
                part.to("cpu")
        elif self.device.type == "cpu":  # anew from the file, which forgets what was read of it
            tensors = load_file(self.keep)
            for name, part in self.parts.items():
                mine = {key: tensors[self._kept_as[f"{name}.{key}"]] for key in part.state_dict()}
                part.load_state_dict(mine, assign=True)
        free_cache(self.device)

    def _write(self) -> None:
        kept = set(self._kept_as.values())
        write_tensors(self.keep, {name: tensor for name, tensor in _named_tensors(self.parts) if name in kept})


def _named_tensors(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    return ((f"{name}.{key}", tensor) for name, part in parts.items() for key, tensor in part.state_dict().items())


def _first_names(parts: Mapping[str, nn.Module]) -> dict[str, str]:
    """For each tensor's name that under which a file keeps it: T5 has one under two names, and a file wants one."""
    first: dict[tuple[int, torch.Size], str] = {}
    return {name: first.setdefault((tensor.data_ptr(), tensor.shape), name) for name, tensor in _named_tensors(parts)}


@contextmanager
def resting(model: Model, folder: Path, rank: int = 0) -> Iterator[Resting]:
    """The encoders of `model` at rest; what that left in `folder` is gone afterwards."""
    keep = folder / FILE.format(rank=rank)
    try:
        yield Resting(model, keep)
    finally:
        with suppress(PermissionError):  # of Windows, while it is mapped
            keep.unlink(missing_ok=True)
