"""Everything that a run needs to go on as if it had never stopped: weights, averages, optimiser, pictures seen.

Randomness is not state: every step draws from a generator seeded by (seed, pictures seen), so a resumed run repeats the
uninterrupted one to the bit. Files are safetensors and JSON, written to a temporary name and renamed; frozen weights,
which a LoRA has many of, are not written.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from fewstep.core.denoise import Denoise
from fewstep.core.schedule import Time
from fewstep.errors import CannotWrite, FewstepError, FewstepWarning
from fewstep.files import replacing
from fewstep.models.conditioning import Conditioning
from fewstep.train.sharding import all_whole, is_part, part

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"


class ForeignCheckpoint(FewstepError):
    """A checkpoint is there, and it is of another network, adapter or optimiser."""


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of `model` that are in training, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@contextmanager
def exchanged(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """`model` with other tensors in the place of some of its weights, without a copy; as before afterwards.

    Of weights that are divided among processes, the parts here are copied: what gathers them knows their place.
    """
    changed = {name: weight for name, weight in model.named_parameters() if name in weights}
    live = {name: weight.detach().clone() if is_part(weight) else weight.data for name, weight in changed.items()}
    try:
        _put(changed, weights)
        yield
    finally:
        _put(changed, live)


@torch.no_grad()
def _put(into: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    for name, weight in into.items():
        if is_part(weight):
            weight.copy_(part(weights[name], like=weight))
        else:
            weight.data = weights[name]


class AveragedTarget:
    """The target of a consistency loss as an average of the student: `decay` a step (LCM, Algorithm 1, theta^-)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: weight.detach().clone() for name, weight in trained(model).items()}

    @torch.no_grad()
    def update(self) -> None:
        for name, weight in trained(self.model).items():
            self.weights[name].lerp_(weight, 1 - self.decay)

    def wrap(self, denoise: Denoise[Conditioning]) -> Denoise[Conditioning]:
        """`denoise`, whose network is the model, with the averaged weights; without gradient."""

        def averaged(x_t: Tensor, t: Time, cond: Conditioning, w: float | Tensor | None = None) -> Tensor:
            with torch.no_grad(), exchanged(self.model, self.weights):
                return denoise(x_t, t, cond, w)

        return averaged


class TrainState:
    """A model in training, the average of its weights, its optimiser, and `seen` pictures.

    target  the averaged target network, where there is one
    scaler  what float16 needs; its scale is state, too
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        target: AveragedTarget | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model, self.optimizer, self.seen = model, optimizer, 0
        self.target, self.scaler = target, scaler
        self.ema = {name: weight.detach().clone().float() for name, weight in trained(model).items()}

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        for name, weight in trained(self.model).items():
            self.ema[name].lerp_(weight.float(), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights and in eval mode, for sampling; as before afterwards."""
        training = self.model.training
        with exchanged(self.model, self.ema):
            try:
                yield self.model.eval()
            finally:
                self.model.train(training)

    def save(self, folder: Path, *, writes: bool = True) -> None:
        """Write a checkpoint; the one before stays as `checkpoint.previous.safetensors`.

        writes  False for a process that only gives its parts of divided weights

        Raises `CannotWrite`, with the last checkpoint untouched, where it cannot be written.
        """
        tensors = all_whole(self._tensors(), keep=writes)
        if not writes:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / CHECKPOINT) as partial:
                save_file(tensors, partial, metadata=self._metadata())
                if (folder / CHECKPOINT).exists():
                    (folder / CHECKPOINT).replace(folder / PREVIOUS)
        except CannotWrite as error:
            kept = "the one before it is whole, and the same command goes on from there"
            raise CannotWrite(
                f"{error} (the checkpoint after {self.seen} pictures"
                + (f"; {kept})" if any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS)) else ")")
            ) from error

    def resume(self, folder: Path) -> bool:
        """Take up the newest whole checkpoint in `folder`; False where there is none.

        Warns of a damaged one; raises `ForeignCheckpoint` for one of another network.
        """
        found = newest(folder)
        if found is None:
            return False
        tensors, metadata = found
        self._restore(tensors, folder)
        self.seen = json.loads(metadata["seen"])
        if self.scaler is not None and "scaler" in metadata:
            self.scaler.load_state_dict(json.loads(metadata["scaler"]))
        return True

    def _metadata(self) -> dict[str, str]:
        scaler = {} if self.scaler is None else {"scaler": json.dumps(self.scaler.state_dict())}
        return {"seen": json.dumps(self.seen), **scaler}

    def _slots(self) -> dict[str, Tensor]:
        """The optimiser's tensors by the weight's name: `conv_in.weight.momentum`; numbers become tensors."""
        state, names = self.optimizer.state_dict()["state"], self._names
        return {
            f"{names[index]}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
            for index, slots in state.items()
            for key, value in slots.items()
            if isinstance(value, (Tensor, int, float))
        }

    @property
    def _names(self) -> list[str]:
        """The names of the weights in the optimiser's order."""
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        return [names[id(weight)] for group in self.optimizer.param_groups for weight in group["params"]]

    def _learnt(self) -> dict[str, Tensor]:
        """What training changes in the model: weights in training, and buffers."""
        kept = set(trained(self.model)) | {name for name, _ in self.model.named_buffers()}
        return {name: tensor for name, tensor in self.model.state_dict().items() if name in kept}

    def _tensors(self) -> dict[str, Tensor]:
        target = {} if self.target is None else self.target.weights
        groups = {"model": self._learnt(), "ema": self.ema, "optimizer": self._slots(), "target": target}
        return {
            f"{group}/{name}": tensor.detach().contiguous()
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor], folder: Path) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "target": {}}
        for key, tensor in tensors.items():
            group, name = key.split("/", 1)
            parts[group][name] = tensor
        self._check(parts, folder)
        ours = {"model": self._learnt(), "ema": self.ema, "target": self.target.weights if self.target else {}}
        for group, weights in ours.items():
            for name, weight in weights.items():
                weight.copy_(part(parts[group][name], like=weight))
        weights_in_order = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        places = {name: place for place, name in enumerate(self._names)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            name, _, slot = key.rpartition(".")
            index = int(name) if name.isdigit() else places[name]  # checkpoints of before name a weight by its place
            weight = weights_in_order[index]
            divided = part(tensor, like=weight) if tensor.shape == weight.shape else tensor
            state.setdefault(index, {})[slot] = divided
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})

    def _check(self, parts: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
        """Raises `ForeignCheckpoint` unless every weight that is trained here is there in its shape."""
        wanted = {"model": self._learnt(), "ema": self.ema, "target": self.target.weights if self.target else {}}
        for group, ours in wanted.items():
            for name, tensor in ours.items():
                theirs = parts[group].get(name)
                if theirs is None or theirs.shape != tensor.shape:
                    has = "lacks it" if theirs is None else f"has it as {tuple(theirs.shape)}"
                    raise ForeignCheckpoint(
                        f"the checkpoint in {folder} is of another run: {name} is {tuple(tensor.shape)} here, and the "
                        f"checkpoint {has}. Use the settings that it was begun with, or another folder"
                    )


def newest(folder: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """(tensors whose names begin with `prefix`, metadata) of the newest whole checkpoint; warns of damaged ones."""
    for name in (CHECKPOINT, PREVIOUS):
        try:
            with safe_open(folder / name, framework="pt") as file:
                names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
                return {key: file.get_tensor(key) for key in names}, file.metadata()
        except FileNotFoundError:
            continue
        except SafetensorError as error:
            warnings.warn(
                f"{folder / name} is damaged ({error}): going back to the checkpoint before it, if there is one",
                FewstepWarning,
                stacklevel=3,
            )
    return None
