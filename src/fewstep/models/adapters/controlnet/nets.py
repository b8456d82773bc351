"""Networks that read a picture, edges or depth, and steer a U-Net: ControlNets (2302.05543), copies of its first half,
and T2I-Adapters (2302.08453), small ones that look at the picture alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models.layout import FAMILIES

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
        inside: list[Tensor] = []
        middle: Tensor | None = None
        for index, network in enumerate(self.networks):
            scale = cond.control_scales[:, index].to(x_t.device, x_t.dtype).view(-1, 1, 1, 1)
            picture = cond.controls[:, index].to(x_t.device, x_t.dtype)
            if not scale.any():
                continue
            if is_adapter(network):
                grey = picture.mean(dim=1, keepdim=True) if network.config.in_channels == 1 else picture
                inside = _sum(inside, [part * scale for part in network(grey)])
                continue
            parts, last = network(
                x_t,
                t,
                encoder_hidden_states=states,
                controlnet_cond=picture,
                added_cond_kwargs=added,
                return_dict=False,
            )
            down = _sum(down, [part * scale for part in parts])
            middle = last * scale if middle is None else middle + last * scale
        steered: dict[str, Any] = {}
        if inside:
            steered["down_intrablock_additional_residuals"] = inside
        if middle is not None:
            steered |= {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
        return steered


def is_adapter(network: Any) -> bool:
    """Whether it is a T2I-Adapter, which does not look at the noisy picture."""
    return hasattr(network.config, "adapter_type")


def _sum(before: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(before, parts, strict=True)] if before else parts


def with_controlnets(model: ModelBundle, networks: Iterable[tuple[str, Any]]) -> ModelBundle:
    """The model with (name, `ControlNetModel` or `T2IAdapter`) beside it.

    Raises `InvalidModel` for one of another family.
    """
    names: list[str] = []
    nets: list[Any] = []
    for name, network in networks:
        _check_family(name, network, model)
        names.append(name)
        nets.append(network.to(model.device).eval())
    stack = ControlNets(tuple(names), tuple(nets))
    return model.with_networks(model.networks, dataclasses.replace(model.adapters, controlnets=stack))


def _check_family(name: str, network: Any, model: ModelBundle) -> None:
    own = model.unet.config
    if is_adapter(network):
        blocks = tuple(own.block_out_channels)
        xl = network.config.adapter_type.endswith("_xl")
        if xl != (own.addition_embed_type == "text_time") or tuple(network.config.channels)[: len(blocks)] != blocks:
            made_for = "SDXL" if xl else "SD 1.x or 2.x"
            raise InvalidModel(f"the T2I-Adapter {name} was made for {made_for} and does not fit {model.name}")
    elif (width := network.config.cross_attention_dim) != own.cross_attention_dim:
        raise InvalidModel(
            f"the ControlNet {name} was made for {FAMILIES.get(width, 'another base')} and {model.name} is "
            f"{FAMILIES.get(own.cross_attention_dim, 'of another kind')}"
        )
