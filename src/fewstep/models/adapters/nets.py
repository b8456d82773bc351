"""Networks that read a picture, edges or depth, as large as the one that is made, and steer a U-Net at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from fewstep.imaging.pixels import to_pixels
from fewstep.models.adapters.controlnet.net import ControlNet
from fewstep.models.adapters.host import Host
from fewstep.models.adapters.steering import scales_of
from fewstep.models.adapters.t2i_adapter import T2IAdapter
from fewstep.models.conditioning import Conditioning
from fewstep.models.families.base import Inputs
from fewstep.models.traits import Control

Model = TypeVar("Model", bound=Host)
Residual = Tensor | Sequence[Tensor]


class Net(Protocol):
    """One such network, of any kind."""

    @property
    def network(self) -> nn.Module: ...

    def check_fits(self, name: str, model: Host) -> None:
        """Raises `InvalidModel` where it was made for another family."""
        ...

    def residuals(self, inputs: Inputs, picture: Tensor) -> Mapping[str, Residual]:
        """What is added inside the U-Net, by the names of its arguments, for `picture` (B, 3, H, W) in [0, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class ControlNets:
    """The nets of a model, in their order."""

    names: tuple[str, ...]
    nets: tuple[Net, ...]
    readers: tuple[nn.Module, ...] = ()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return tuple(net.network for net in self.nets)

    def conditioned(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None],
        device: torch.device,
        *,
        away: bool,
    ) -> Conditioning:
        """With the pictures, in the size of the one that is made."""
        empty = torch.zeros(3, height, width)
        pictures = torch.stack(
            [empty if each is None else to_pixels(each.image, height, width)[0] / 2 + 0.5 for each in controls]
        )
        rows = len(cond)
        return dataclasses.replace(
            cond, controls=pictures.expand(rows, *pictures.shape), control_scales=scales_of(controls).expand(rows, -1)
        )

    def steered(self, inputs: Inputs, cond: Conditioning) -> Inputs:
        """Of `cond.controls` (B, nets, 3, H, W) as far as `cond.control_scales` (B, nets) say."""
        if cond.controls is None or cond.control_scales is None:
            return inputs
        x_t = inputs["sample"]
        assert isinstance(x_t, Tensor)
        total: Inputs = {}
        for index, net in enumerate(self.nets):
            scale = cond.control_scales[:, index].to(x_t.device, x_t.dtype).view(-1, 1, 1, 1)
            if not scale.any():
                continue
            picture = cond.controls[:, index].to(x_t.device, x_t.dtype)
            for name, value in net.residuals(inputs, picture).items():
                total[name] = _sum(total.get(name), _scaled(value, scale))
        return {**inputs, **total}


def _scaled(residual: Residual, scale: Tensor) -> Residual:
    return residual * scale if isinstance(residual, Tensor) else [part * scale for part in residual]


def _sum(before: Residual | None, more: Residual) -> Residual:
    if before is None:
        return more
    if isinstance(before, Tensor) and isinstance(more, Tensor):
        return before + more
    return [a + b for a, b in zip(before, more, strict=True)]


def with_controlnets(model: Model, networks: Iterable[tuple[str, nn.Module]]) -> Model:
    """The model with (name, diffusers' `ControlNetModel` or `T2IAdapter`) beside it.

    Raises `InvalidModel` for one of another family.
    """
    names: list[str] = []
    nets: list[Net] = []
    for name, network in networks:
        net = T2IAdapter.of(network) or ControlNet(network)
        net.check_fits(name, model)
        network.to(model.device).eval()
        names.append(name)
        nets.append(net)
    if not nets:
        return model
    stack = ControlNets(tuple(names), tuple(nets))
    return model.with_networks(model.networks, dataclasses.replace(model.adapters, controlnets=stack))
