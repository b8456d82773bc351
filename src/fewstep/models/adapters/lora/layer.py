"""A layer with adapters on top: its own output, and what each adapter adds, weighed anew at every call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Self, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.models.adapters.lora.kinds.base import Change
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.rebuilt import KeptWhole, rebuilt


class Shares(KeptWhole):
    """The weights of the call under way, for each adapter one number, or one (B,): the layers read them as they run."""

    now: Sequence[float | Tensor] = ()


class AdaptedLayer(nn.Module):
    """A linear or convolutional layer, and the changes of some of a stack's adapters, by their numbers in it."""

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, shares: Shares) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adapters = nn.ModuleDict()
        self.shares = shares

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base_layer.bias

    @classmethod
    def on(cls, layer: nn.Module, shares: Shares, changes: Mapping[int, Change]) -> Self:
        """On a plain layer, or on an adapted one beside what it has; the `changes` fit it (`Change.fitted`)."""
        base = layer.base_layer if isinstance(layer, AdaptedLayer) else layer
        assert isinstance(base, (nn.Linear, nn.Conv2d))
        adapted = cls(base, shares)
        if isinstance(layer, AdaptedLayer):
            adapted.adapters.update(dict(layer.adapters.items()))
        for number, change in changes.items():
            made = _LowRank(change, base) if isinstance(change, LoraLayer) else _Delta(change, base)
            adapted.adapters[str(number)] = made.requires_grad_(False)
        return adapted

    def _numbered(self) -> Iterator[tuple[int, _LowRank | _Delta]]:
        for number, adapter in self.adapters.items():
            yield int(number), cast("_LowRank | _Delta", adapter)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base_layer(x)
        for number, adapter in self._numbered():
            share = self.shares.now[number]
            if isinstance(share, Tensor):
                share = share.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
            result = result + adapter(x) * (adapter.scale * share)
        return result

    @torch.no_grad()
    def merged(self, shares: Sequence[float], dtype: torch.dtype | None = None) -> nn.Linear | nn.Conv2d:
        """A layer as the one beneath, with another weight."""
        original = self.weight.float()
        total = original
        for number, adapter in self._numbered():
            total = total + adapter.scale * shares[number] * adapter.delta(original)
        changed = torch.empty_like(self.weight, dtype=dtype).copy_(total)
        return rebuilt(self.base_layer, {self.weight: nn.Parameter(changed, self.weight.requires_grad)})


class _Geometry(TypedDict, total=False):
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


def _geometry(layer: nn.Linear | nn.Conv2d) -> _Geometry:
    """How a convolution moves over its input; nothing of a linear layer."""
    if isinstance(layer, nn.Linear):
        return {}
    return {"stride": layer.stride, "padding": cast("tuple[int, ...]", layer.padding), "dilation": layer.dilation}


class _LowRank(nn.Module):
    """A LoRA, as two small layers."""

    def __init__(self, change: LoraLayer, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.down = nn.Parameter(change.down.to(layer.weight.device, layer.weight.dtype))
        self.up = nn.Parameter(change.up.to(layer.weight.device, layer.weight.dtype))
        self.alpha, self.geometry = change.alpha, _geometry(layer)

    @property
    def scale(self) -> float:
        return self.alpha / len(self.down)

    def forward(self, x: Tensor) -> Tensor:
        if self.down.ndim == 2:
            return F.linear(F.linear(x, self.down), self.up)
        return F.conv2d(F.conv2d(x, self.down, **self.geometry), self.up)

    def delta(self, weight: Tensor) -> Tensor:
        return torch.einsum("or,r...->o...", self.up.float().flatten(1), self.down.float())


class _Delta(nn.Module):
    """Any other change. What depends on the layer's weight is worked out once; the rest is rebuilt from its small
    factors at every call, for the whole of it would take as much memory as the layer.

    The factors are parameters of this module itself, so that a memory policy brings them where it runs.
    """

    scale = 1.0

    def __init__(self, change: Change, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        weight = layer.weight
        factors = {"fixed": change.delta(weight.cpu())} if change.needs_weight else change.factors
        for name, factor in factors.items():
            self.register_parameter(f"_{name}", nn.Parameter(factor.to(weight.device, weight.dtype)))
        self.change, self.names, self.shape, self.geometry = change, tuple(factors), weight.shape, _geometry(layer)

    def forward(self, x: Tensor) -> Tensor:
        delta = self._delta({name: getattr(self, f"_{name}") for name in self.names})
        return F.linear(x, delta) if delta.ndim == 2 else F.conv2d(x, delta, **self.geometry)

    def delta(self, weight: Tensor) -> Tensor:
        return self._delta({name: getattr(self, f"_{name}").float() for name in self.names})

    def _delta(self, factors: dict[str, Tensor]) -> Tensor:
        if "fixed" in factors:
            return factors["fixed"]
        like = torch.empty(self.shape, device="meta")  # only the shape matters
        return dataclasses.replace(self.change, **factors).delta(like)
