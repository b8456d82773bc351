"""One `.safetensors` file: the names and shapes of its tensors and its metadata, or the tensors themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models import packed
from fewstep.models.locating import IS_A_PICKLE, PICKLES


@dataclass(frozen=True)
class Header:
    """What a file says without its tensors being read."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Header:
        """Raises `InvalidModel` for a pickle, and for what is no safetensors."""
        from safetensors import SafetensorError, safe_open

        _refuse_pickles(path)
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
                return cls(packed.shapes_in(shapes, metadata), metadata)
        except (OSError, SafetensorError) as error:
            raise InvalidModel(f"{path} cannot be read as safetensors: {error}") from error

    def has(self, *beginnings: str) -> bool:
        """Whether the name of a tensor begins so."""
        return any(key.startswith(beginnings) for key in self.shapes)

    def width(self, *endings: str) -> int | None:
        """The second size of the first tensor whose name ends so: of a layer's weight, how many inputs it has."""
        return next((shape[1] for key, shape in self.shapes.items() if key.endswith(endings) and len(shape) > 1), None)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """(tensors, metadata) of a file, packed or not; raises like `Header.read`."""
    _refuse_pickles(path)
    return packed.read(path)


def _refuse_pickles(path: Path) -> None:
    if path.suffix in PICKLES:
        raise InvalidModel(f"{path} {IS_A_PICKLE}")
