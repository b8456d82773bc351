"""A layer with adapters on top: its own output, and what each adapter adds, weighed anew at every call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.models.adapters.changes import Change, LoraLayer


class Shares:
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

    def add(self, number: int, change: Change) -> None:
        """`change` fits the layer (`Change.fitted`)."""
        adapter = _LowRank(change, self.weight) if isinstance(change, LoraLayer) else _Delta(change, self.weight)
        self.adapters[str(number)] = adapter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base_layer(x)
        adapter: Any
        for number, adapter in self.adapters.items():
            share = self.shares.now[int(number)]
            if isinstance(share, Tensor):
                share = share.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
            result = result + adapter(x, self.base_layer) * (adapter.scale * share)
        return result

    @torch.no_grad()
    def merged(self, shares: Sequence[float]) -> nn.Linear | nn.Conv2d:
        """The layer itself, its weight changed for good."""
        original = self.weight.float()
        total = original
        adapter: Any
        for number, adapter in self.adapters.items():
            total = total + adapter.scale * shares[int(number)] * adapter.delta(original)
        self.weight.copy_(total)
        return self.base_layer


class _LowRank(nn.Module):
    """A LoRA, as two small layers."""

    def __init__(self, change: LoraLayer, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(change.down.to(like.device, like.dtype))
        self.up = nn.Parameter(change.up.to(like.device, like.dtype))
        self.alpha = change.alpha

    @property
    def scale(self) -> float:
        return self.alpha / len(self.down)

    def forward(self, x: Tensor, layer: Any) -> Tensor:
        if self.down.ndim == 2:
            return F.linear(F.linear(x, self.down), self.up)
        return F.conv2d(F.conv2d(x, self.down, None, layer.stride, layer.padding, layer.dilation), self.up)

    def delta(self, weight: Tensor) -> Tensor:
        return torch.einsum("or,r...->o...", self.up.float().flatten(1), self.down.float())


class _Delta(nn.Module):
    """Any other change. What depends on the layer's weight is worked out once; the rest is rebuilt from its small
    factors at every call, for the whole of it would take as much memory as the layer.
    """

    scale = 1.0

    def __init__(self, change: Change, weight: Tensor) -> None:
        super().__init__()
        factors = {"fixed": change.delta(weight.cpu())} if change.needs_weight else change.factors
        self.change = change
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(x.to(weight.device, weight.dtype)) for name, x in factors.items()}
        )

    def forward(self, x: Tensor, layer: Any) -> Tensor:
        shape = torch.empty(layer.weight.shape, device="meta")
        delta = self._delta(dict(self.factors), shape)
        if delta.ndim == 2:
            return F.linear(x, delta)
        return F.conv2d(x, delta, None, layer.stride, layer.padding, layer.dilation)

    def delta(self, weight: Tensor) -> Tensor:
        return self._delta({name: factor.float() for name, factor in self.factors.items()}, weight)

    def _delta(self, factors: dict[str, Tensor], weight: Tensor) -> Tensor:
        return factors["fixed"] if "fixed" in factors else dataclasses.replace(self.change, **factors).delta(weight)
