"""How an adapter changes the weight of one layer, W: plain LoRA, LoHa, LoKr, OFT, a whole difference, and DoRA on top.

Every kind is a change that is added: W + share * delta(W), for a share in [-10, 10]. LyCORIS and PEFT agree on the
deltas at a share of 1. Those of OFT, BOFT and DoRA depend on W; their other shares lie on the line from W through
W + delta, as ComfyUI and AUTOMATIC1111's web UI have it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from torch import Size, Tensor


@dataclass(frozen=True, eq=False)
class Change(ABC):
    """The change of one layer, as a file holds it; fields that are tensors are the file's own."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What people call it: "LoRA", "LoHa", …"""

    @property
    def rank(self) -> int | None:
        """The rank, or the size of its blocks; None where there is no such thing."""
        return None

    @property
    def inputs(self) -> int | None:
        """How many inputs its layer has; None where it does not tell."""
        return None

    @property
    def needs_weight(self) -> bool:
        """Whether `delta` depends on the weight that it changes, and not on its shape alone."""
        return False

    @property
    def factors(self) -> Mapping[str, Tensor]:
        """Its tensors, by the names of its fields."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def num_parameters(self) -> int:
        return sum(each.numel() for each in self.factors.values())

    @abstractmethod
    def fitted(self, shape: Size) -> Self | None:
        """Itself, shaped for a weight of that shape, (out, in) or (out, in, h, w); None where it does not fit."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight` at a share of 1, of its shape; computed in the precision of the factors."""


@dataclass(frozen=True, eq=False)
class LoraLayer(Change):
    """alpha / rank * up @ down (2106.09685).

    down, up  (rank, in) and (out, rank), or (rank, in, h, w) and (out, rank, 1, 1)
    """

    down: Tensor
    up: Tensor
    alpha: float
    kind = "LoRA"

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def inputs(self) -> int:
        return self.down.shape[1]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def fitted(self, shape: Size) -> Self | None:
        """A layer for a 1x1 convolution also fits a linear one, and the other way."""
        if len(shape) == 4:
            kernel = shape[2:] if self.down.ndim == 2 else self.down.shape[2:]
            if self.down.numel() % (self.rank * prod(kernel)):
                return None
            down, up = self.down.reshape(self.rank, -1, *kernel), self.up.reshape(-1, self.rank, 1, 1)
            fits = down.shape[1:] == shape[1:] and len(up) == shape[0]
        else:
            down, up = self.down.flatten(1), self.up.flatten(1)
            fits = (len(up), down.shape[1]) == tuple(shape)
        return dataclasses.replace(self, down=down, up=up) if fits else None

    def delta(self, weight: Tensor) -> Tensor:
        return self.scale * torch.einsum("or,r...->o...", self.up.flatten(1), self.down)


@dataclass(frozen=True, eq=False)
class LohaLayer(Change):
    """scale * (w1_a @ w1_b) ∘ (w2_a @ w2_b) (FedPara, 2108.06098).

    w1_a, w2_a  (out, rank), with w1_b, w2_b (rank, in * h * w); or with cores t1, t2 (rank, rank, h, w): (rank, out),
                with (rank, in)
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    scale: float
    t1: Tensor | None = None
    t2: Tensor | None = None
    kind = "LoHa"

    @property
    def rank(self) -> int:
        return len(self.w1_b)

    @property
    def inputs(self) -> int:
        return self.w1_b.shape[1]

    def fitted(self, shape: Size) -> Self | None:
        halves = ((self.w1_a, self.w1_b, self.t1), (self.w2_a, self.w2_b, self.t2))
        return self if all(_product_shape(*half) in _shapes_for(shape) for half in halves) else None

    def delta(self, weight: Tensor) -> Tensor:
        one, two = _product(self.w1_a, self.w1_b, self.t1), _product(self.w2_a, self.w2_b, self.t2)
        return self.scale * (one * two).reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class LokrLayer(Change):
    """scale * kron(w1, w2) (LyCORIS, 2309.14859); either may be a product of two matrices, and w2's have a core.

    w1  (out1, in1), or w1_a (out1, rank) @ w1_b (rank, in1)
    w2  (out2, in2[, h, w]), or w2_a (out2, rank) @ w2_b (rank, in2 * h * w), or with a core t2 (rank, rank, h, w):
        w2_a (rank, out2), w2_b (rank, in2)
    """

    scale: float
    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    kind = "LoKr"

    @property
    def rank(self) -> int | None:
        factored = self.w1_b if self.w1_b is not None else self.w2_b
        return None if factored is None else len(factored)

    @property
    def inputs(self) -> int | None:
        return self._shape[1] if self._shape else None

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape of the product; empty where it has none."""
        one = tuple(self.w1.shape) if self.w1 is not None else _product_shape(self.w1_a, self.w1_b, None)
        two = tuple(self.w2.shape) if self.w2 is not None else _product_shape(self.w2_a, self.w2_b, self.t2)
        return (one[0] * two[0], one[1] * two[1], *two[2:]) if len(one) == 2 and len(two) >= 2 else ()

    def fitted(self, shape: Size) -> Self | None:
        return self if self._shape in _shapes_for(shape) else None

    def delta(self, weight: Tensor) -> Tensor:
        one = self.w1 if self.w1 is not None else _product(self.w1_a, self.w1_b, None)
        two = self.w2 if self.w2 is not None else _product(self.w2_a, self.w2_b, self.t2)
        one = one.reshape(*one.shape, *[1] * (two.ndim - one.ndim))
        return self.scale * torch.kron(one, two.contiguous()).reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class FullLayer(Change):
    """The difference itself, as LyCORIS calls it "full"."""

    diff: Tensor
    kind = "a full difference"

    @property
    def inputs(self) -> int | None:
        return self.diff.shape[1] if self.diff.ndim > 1 else None

    def fitted(self, shape: Size) -> Self | None:
        return self if tuple(self.diff.shape) in _shapes_for(shape) else None

    def delta(self, weight: Tensor) -> Tensor:
        return self.diff.reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class OftLayer(Change):
    """Rotated outputs, (R - 1) W, with R made of blocks by Cayley's formula (2306.07280); BOFT (2311.06243) has several
    such rotations, one after the other, of outputs ever farther apart.

    blocks      (blocks, size, size); for BOFT (rotations, blocks, size, size)
    constraint  what the norm of the blocks may be at most, for each output; 0: anything
    rescale     (out, 1, …): what every output is multiplied by afterwards
    """

    blocks: Tensor
    constraint: float = 0.0
    rescale: Tensor | None = None

    @property
    def kind(self) -> str:
        return "OFT" if self.blocks.ndim == 3 else "BOFT"

    @property
    def rank(self) -> int:
        return self.blocks.shape[-1]

    @property
    def needs_weight(self) -> bool:
        return True

    def fitted(self, shape: Size) -> Self | None:
        rescaled = self.rescale is None or self.rescale.numel() == shape[0]
        return self if self.blocks.shape[-3] * self.rank == shape[0] and rescaled else None

    def delta(self, weight: Tensor) -> Tensor:
        skew = self.blocks.float()
        skew = skew - skew.mT
        if self.constraint > 0:
            limit = self.constraint * len(weight)
            skew = skew * min(1.0, limit / (float(skew.norm()) + 1e-8))
        one = torch.eye(self.rank)
        rotations = (one + skew) @ torch.linalg.inv(one - skew)
        rotated = weight.float()
        if rotations.ndim == 3:
            rotated = torch.einsum("knm,kn...->km...", rotations, rotated.unflatten(0, (-1, self.rank))).flatten(0, 1)
        else:
            for stage, rotation in enumerate(rotations):
                near = 2**stage * self.rank // 2
                rotated = (
                    rotated.unflatten(0, (-1, 2, near)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, self.rank))
                )
                rotated = torch.einsum("bij,bj...->bi...", rotation, rotated).flatten(0, 1)
                rotated = rotated.unflatten(0, (-1, near, 2)).transpose(1, 2).flatten(0, 2)
        if self.rescale is not None:
            rotated = rotated * self.rescale.float().reshape(-1, *[1] * (weight.ndim - 1))
        return rotated - weight.float()


@dataclass(frozen=True, eq=False)
class InputOftLayer(Change):
    """Rotated inputs, W (R - 1)ᵀ, as PEFT has OFT.

    triangles  (blocks, size (size - 1) / 2): what is above the diagonals of skew-symmetric matrices; one block may be
               shared by all inputs
    terms      how many of the series that stands for Cayley's inverse; 0: the inverse itself
    """

    triangles: Tensor
    terms: int = 5
    kind = "OFT"

    @property
    def rank(self) -> int:
        return round((1 + (1 + 8 * self.triangles.shape[1]) ** 0.5) / 2)

    @property
    def needs_weight(self) -> bool:
        return True

    def fitted(self, shape: Size) -> Self | None:
        inputs = prod(shape[1:])
        return self if len(self.triangles) * self.rank == inputs or self._shared(inputs) else None

    @property
    def _series(self) -> list[float]:
        """PEFT's coefficients of the powers from the first on: 1 + 2 Q + 2 Q² + … + Qⁿ."""
        return [2.0] * (self.terms - 1) if self.terms < 3 else [*[2.0] * max(2, self.terms - 2), 1.0]

    def _shared(self, inputs: int) -> bool:
        return len(self.triangles) == 1 and inputs % self.rank == 0

    def delta(self, weight: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.rank, self.rank, 1)
        skew = torch.zeros(len(self.triangles), self.rank, self.rank)
        skew[:, rows, columns] = self.triangles.float()
        skew = skew - skew.mT
        one = torch.eye(self.rank)
        if self.terms:
            rotation = one.repeat(len(skew), 1, 1)
            for power, times in enumerate(self._series, start=1):
                rotation = rotation + times * torch.matrix_power(skew, power)
        else:
            rotation = (one - skew) @ torch.linalg.inv(one + skew)
        flat = weight.float().flatten(1)
        turned = torch.einsum("obk,bck->obc", flat.unflatten(1, (-1, self.rank)), rotation)
        return (turned.flatten(1) - flat).reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class DoraLayer(Change):
    """W + delta, brought to a length that was learnt apart: magnitude * (W + delta) / |W + delta| (2402.09353).

    magnitude  (out, 1, …), the length of every output's weights; or (1, in, …), of every input's, as older LyCORIS
    """

    inner: Change
    magnitude: Tensor

    @property
    def kind(self) -> str:
        return "DoRA" if isinstance(self.inner, LoraLayer) else f"{self.inner.kind} with DoRA"

    @property
    def rank(self) -> int | None:
        return self.inner.rank

    @property
    def inputs(self) -> int | None:
        return self.inner.inputs

    @property
    def needs_weight(self) -> bool:
        return True

    @property
    def factors(self) -> Mapping[str, Tensor]:
        return {**self.inner.factors, "magnitude": self.magnitude}

    @property
    def by_input(self) -> bool:
        return self.magnitude.ndim > 1 and self.magnitude.shape[0] == 1 and self.magnitude.shape[1] > 1

    def fitted(self, shape: Size) -> Self | None:
        inner = self.inner.fitted(shape)
        lengths = shape[1] if self.by_input else shape[0]
        return None if inner is None or self.magnitude.numel() != lengths else dataclasses.replace(self, inner=inner)

    def delta(self, weight: Tensor) -> Tensor:
        changed = weight.float() + self.inner.delta(weight).float()
        rest = [dim for dim in range(weight.ndim) if dim != (1 if self.by_input else 0)]
        length = torch.linalg.vector_norm(changed, dim=rest, keepdim=True) + torch.finfo(torch.float32).eps
        return changed * (self.magnitude.float().reshape(length.shape) / length) - weight.float()


def _product(a: Tensor | None, b: Tensor | None, core: Tensor | None) -> Tensor:
    """a @ b, or with a core: sum over both ranks, (out, in, h, w)."""
    assert a is not None
    assert b is not None
    return a @ b if core is None else torch.einsum("ij...,ip,jr->pr...", core, a, b)


def _product_shape(a: Tensor | None, b: Tensor | None, core: Tensor | None) -> tuple[int, ...]:
    """The shape of `_product`; empty where it has none."""
    if a is None or b is None or a.ndim != 2 or b.ndim != 2:
        return ()
    if core is not None:
        fits = core.ndim > 2 and tuple(core.shape[:2]) == (len(a), len(b))
        return (a.shape[1], b.shape[1], *core.shape[2:]) if fits else ()
    return (a.shape[0], b.shape[1]) if a.shape[1] == b.shape[0] else ()


def _shapes_for(shape: Size) -> set[tuple[int, ...]]:
    """The shapes in which files have a weight: its own, with its kernel behind the inputs, and with a kernel of one."""
    same = {tuple(shape), (shape[0], prod(shape[1:]))}
    return same | {(*shape, 1, 1)} if len(shape) == 2 else same
