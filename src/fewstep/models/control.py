"""ControlNets (2302.05543): copies of a U-Net's first half that read a picture, edges or depth, and steer the U-Net."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models.lora_file import FAMILIES

if TYPE_CHECKING:
    from fewstep.models.bundle import ModelBundle
    from fewstep.models.conditioning import Conditioning


@dataclass(frozen=True, eq=False)
class ControlNets:
    """The nets of a bundle, in their order, and what requests call them by."""

    names: tuple[str, ...]
    networks: tuple[Any, ...]

    def steer(
        self, x_t: Tensor, t: Tensor, states: Tensor, cond: Conditioning, added: dict[str, Tensor] | None
    ) -> dict[str, Any]:
        """The arguments that make a U-Net follow `cond.controls` (B, nets, 3, H, W) as far as `cond.control_scales`
        (B, nets) say; none for rows without controls.
        """
        if cond.controls is None or cond.control_scales is None:
            return {}
        down: list[Tensor] = []
        middle: Tensor | None = None
        for index, network in enumerate(self.networks):
            scale = cond.control_scales[:, index].to(x_t.device, x_t.dtype).view(-1, 1, 1, 1)
            if not scale.any():
                continue
            parts, last = network(
                x_t,
                t,
                encoder_hidden_states=states,
                controlnet_cond=cond.controls[:, index].to(x_t.device, x_t.dtype),
                added_cond_kwargs=added,
                return_dict=False,
            )
            down = _sum(down, [part * scale for part in parts])
            middle = last * scale if middle is None else middle + last * scale
        if middle is None:
            return {}
        return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}


def _sum(before: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(before, parts, strict=True)] if before else parts


def with_controlnets(model: ModelBundle, networks: Iterable[tuple[str, Any]]) -> ModelBundle:
    """The model with (name, `ControlNetModel`) beside it; raises `InvalidModel` for one of another family."""
    names: list[str] = []
    nets: list[Any] = []
    own = model.unet.config.cross_attention_dim
    for name, network in networks:
        width = network.config.cross_attention_dim
        if width != own:
            raise InvalidModel(
                f"the ControlNet {name} was made for {FAMILIES.get(width, 'another base')} and {model.name} is "
                f"{FAMILIES.get(own, 'of another kind')}"
            )
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
        nets.append(network.to(model.device).eval())
    return dataclasses.replace(model, controlnets=ControlNets(tuple(names), tuple(nets))) if names else model
