"""The features of generated pictures, on disk in pieces that are whole or absent: a killed run goes on from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fewstep.files import replacing, write_tensors
from fewstep.imaging.reading import read_image


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """Of N pictures in the order of their numbers.

    features, embeddings  what the feature network says of them, (N, D) and (N, E) float32
    chroma, contrast      (N,) float32 in [0, 1]: mean over the pixels of max(RGB) - min(RGB), deviation of the luma
    flat                  (N,) bool: all of one colour
    """

    features: Tensor
    embeddings: Tensor
    chroma: Tensor
    contrast: Tensor
    flat: Tensor

    @classmethod
    def joined(cls, parts: Sequence[PictureFeatures]) -> PictureFeatures:
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def first(self, count: int) -> PictureFeatures:
        return PictureFeatures(*(getattr(self, field.name)[:count] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Shards:
    """The pieces of one candidate, in a folder whose name says how its pictures are generated.

    Piece u holds the pictures u * size … (u + 1) * size - 1, always generated together: the same batch has the same
    rounding, so figures do not depend on where a run was cut or how many processes shared it.
    """

    folder: Path
    size: int

    def path(self, unit: int) -> Path:
        return self.folder / f"{unit:06}.safetensors"

    def missing(self, count: int) -> Iterator[int]:
        """The pieces that are not there yet, of those that hold the first `count` pictures."""
        return (unit for unit in range(-(-count // self.size)) if not self.path(unit).is_file())

    def write(self, unit: int, features: PictureFeatures, shown: dict[int, Image]) -> None:
        """A piece, after the pictures by their numbers that the report shows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, picture in shown.items():
            with replacing(self._picture(number)) as file:
                picture.save(file, format="PNG")
        write_tensors(self.path(unit), {field.name: getattr(features, field.name) for field in fields(features)})

    def read(self, count: int) -> PictureFeatures:
        """The first `count` pictures."""
        parts = [self._read(unit) for unit in range(-(-count // self.size))]
        return PictureFeatures.joined(parts).first(count)

    def picture(self, number: int) -> Image:
        return read_image(self._picture(number))

    def _read(self, unit: int) -> PictureFeatures:
        return PictureFeatures(**load_file(self.path(unit)))

    def drop_damaged(self, count: int) -> None:
        """Remove pieces that cannot be read (a full disk, a copy that broke off), so that they are generated again."""
        for unit in range(-(-count // self.size)):
            if self.path(unit).is_file():
                try:
                    self._read(unit)
                except (SafetensorError, TypeError, OSError):
                    self.path(unit).unlink()

    def _picture(self, number: int) -> Path:
        return self.folder / f"{number:06}.png"
