"""A LoRA in fewer bytes: of all its layers' changes, the directions that change the weights most for what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import InvalidModel, InvalidRequest
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.base import Change
from fewstep.models.adapters.lora.kinds.lora import LoraLayer

Name = tuple[str, str]  # part, layer
MB = 1_000_000

NAMED = 260  # bytes that safetensors spends on a layer's two matrices, beside their names


@dataclass(frozen=True, eq=False)
class _Directions:
    """A layer's change as a sum of orthogonal directions: left (out, r) * values (r,) falling * right (r, in)."""

    layer: LoraLayer
    left: Tensor
    values: Tensor
    right: Tensor

    @classmethod
    def of(cls, layer: LoraLayer) -> _Directions:
        """By the singular values of the product, found in the small space between the two matrices."""
        down, up = layer.down.double().flatten(1), layer.alpha / layer.rank * layer.up.double().flatten(1)
        right_basis, right = torch.linalg.qr(down.T)
        left_basis, left = torch.linalg.qr(up)
        u, values, v = torch.linalg.svd(left @ right.T, full_matrices=False)
        return cls(layer, left_basis @ u, values, v @ right_basis.T)

    @property
    def cost(self) -> int:
        """The bytes of one direction."""
        return _bytes(self.layer) // self.layer.rank

    def first(self, rank: int) -> LoraLayer:
        """The layer with its `rank` largest directions, each divided evenly between the two matrices."""
        down, up = self.layer.down, self.layer.up
        root = self.values[:rank].sqrt()
        return LoraLayer(
            down=(root[:, None] * self.right[:rank]).view(rank, *down.shape[1:]).to(down),
            up=(self.left[:, :rank] * root).view(len(up), rank, *up.shape[2:]).to(up),
            alpha=float(rank),
        )


def resized(file: LoraFile, size: float) -> tuple[LoraFile, float]:
    """The adapter in at most `size` bytes (in its own spelling), and what share of its change is left.

    The change of every layer is taken apart by its singular values, and over all layers those are kept that bring the
    most of the squared change per byte. Ranks then differ from layer to layer, from one up: no layer goes altogether,
    for by its layers others tell what an adapter is for. The share is of the squared change, in [0, 1]. A file that
    is small enough stays as it is.

    Raises `InvalidRequest` for a size that holds less than one direction of every layer, `InvalidModel` for NaN.
    """
    if others := sorted({change.kind for change in file.changes if not isinstance(change, LoraLayer)}):
        raise InvalidModel(f"{file.path} is a {others[0]}, and only plain LoRAs can be made smaller")
    layers = {
        (part, name): layer
        for part, named in file.layers.items()
        for name, layer in named.items()
        if isinstance(layer, LoraLayer)
    }
    numbers = sum(map(_bytes, layers.values()))
    beside = file.path.stat().st_size - numbers  # names, metadata, alphas
    if beside < 0:  # the file is packed
        beside = sum(2 * len(name) + NAMED for _, name in layers)
    if numbers + beside <= size:
        return file, 1.0
    beside += sum(2 * len(rf"\"{name}\": 128.0, ") for _, name in layers)  # diffusers is given every rank and alpha
    least = sum(_bytes(layer) // layer.rank for layer in layers.values()) + beside
    if size < least:
        raise InvalidRequest(
            f"{file.path} does not fit into {size / MB:.2f} MB: with a rank of 1 in every layer it takes "
            f"{least / MB:.2f} MB"
        )
    if not all(matrix.isfinite().all() for layer in layers.values() for matrix in (layer.down, layer.up)):
        raise InvalidModel(f"{file.path} is damaged: it holds numbers that are not finite")
    apart = {name: _Directions.of(layer) for name, layer in layers.items()}
    ranks = _ranks(apart, size - least)
    kept: dict[str, dict[str, Change]] = {}
    for (part, name), rank in ranks.items():
        kept.setdefault(part, {})[name] = apart[part, name].first(rank)
    left = sum(float(apart[name].values[:rank].square().sum()) for name, rank in ranks.items())
    whole = sum(float(each.values.square().sum()) for each in apart.values())
    return dataclasses.replace(file, layers=kept), left / whole if whole else 1.0


def _ranks(apart: Mapping[Name, _Directions], budget: float) -> Mapping[Name, int]:
    """How many directions of each layer: the first of all, then the best that still fit into `budget` bytes."""
    rest = [(float(value) ** 2 / each.cost, name) for name, each in apart.items() for value in each.values[1:]]
    ranks = dict.fromkeys(apart, 1)
    for _, name in sorted(rest, reverse=True):
        if apart[name].cost <= budget:
            budget -= apart[name].cost
            ranks[name] += 1
    return ranks


def _bytes(layer: LoraLayer) -> int:
    return sum(matrix.numel() * matrix.element_size() for matrix in (layer.down, layer.up))
