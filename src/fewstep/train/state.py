"""Everything that a run needs to go on as if it had never stopped: weights, average, optimiser, pictures seen.

Randomness is not state: every step draws from a generator seeded by (seed, pictures seen), so a resumed run repeats the
uninterrupted one to the bit. Files are safetensors and JSON, written to a temporary name and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"


class TrainState:
    """A model in training, the average of its weights, its optimiser, and `seen` pictures."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer, self.seen = model, optimizer, 0
        self.ema = {name: weight.detach().clone().float() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        for name, weight in self.model.named_parameters():
            self.ema[name].lerp_(weight.float(), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights and in eval mode, for sampling; as before afterwards."""
        live = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        training = self.model.training
        try:
            yield self._put(self.ema).eval()
        finally:
            self._put(live).train(training)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> nn.Module:
        for name, weight in self.model.named_parameters():
            weight.copy_(weights[name])
        return self.model

    def save(self, folder: Path) -> None:
        """Write a checkpoint; the one before stays as `checkpoint.previous.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{CHECKPOINT}.partial"
        save_file(self._tensors(), partial, metadata={"seen": json.dumps(self.seen)})
        if (folder / CHECKPOINT).exists():
            (folder / CHECKPOINT).replace(folder / PREVIOUS)
        partial.replace(folder / CHECKPOINT)

    def resume(self, folder: Path) -> bool:
        """Take up the newest whole checkpoint in `folder`; False where there is none."""
        for name in (CHECKPOINT, PREVIOUS):
            try:
                with safe_open(folder / name, framework="pt") as file:
                    self._restore({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
                    self.seen = json.loads(file.metadata()["seen"])
                return True
            except (FileNotFoundError, SafetensorError):
                continue
        return False

    @staticmethod
    def average_of(folder: Path) -> dict[str, Tensor]:
        """The averaged weights of the newest checkpoint; raises FileNotFoundError where there is none."""
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            names = [key for key in file.keys() if key.startswith("ema/")]  # noqa: SIM118
            return {name.removeprefix("ema/"): file.get_tensor(name) for name in names}

    def _slots(self) -> dict[str, Tensor]:
        """The optimiser's tensors, named by the weight's place: `3.momentum`."""
        state = self.optimizer.state_dict()["state"]
        return {f"{index}.{key}": value for index, slots in state.items() for key, value in slots.items()}

    def _tensors(self) -> dict[str, Tensor]:
        groups = {"model": self.model.state_dict(), "ema": self.ema, "optimizer": self._slots()}
        return {
            f"{group}/{name}": tensor.detach().contiguous()
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
        for key, tensor in tensors.items():
            group, name = key.split("/", 1)
            parts[group][name] = tensor
        self.model.load_state_dict(parts["model"])
        device = next(self.model.parameters()).device
        self.ema = {name: tensor.to(device) for name, tensor in parts["ema"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            index, slot = key.split(".", 1)
            state.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
