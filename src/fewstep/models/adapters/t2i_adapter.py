"""T2I-Adapters (2302.08453): small networks that look at a picture alone, and not at the noisy one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from fewstep.errors import InvalidModel
from fewstep.models.adapters.host import Host
from fewstep.models.families.base import Inputs

if TYPE_CHECKING:
    from diffusers import T2IAdapter as Network


@dataclass(frozen=True, eq=False)
class T2IAdapter:
    """One of diffusers' `T2IAdapter`."""

    network: Network

    @classmethod
    def of(cls, network: nn.Module) -> Self | None:
        """None for a network of another kind."""
        return cls(network) if hasattr(network.config, "adapter_type") else None

    def check_fits(self, name: str, model: Host) -> None:
        config = self.network.config
        blocks = tuple(model.networks["unet"].config.block_out_channels)  # type: ignore[union-attr,arg-type]
        xl = config.adapter_type.endswith("_xl")
        if xl != (model.traits.sizes is not None) or tuple(config.channels)[: len(blocks)] != blocks:
            made_for = "SDXL" if xl else "SD 1.x or 2.x"
            raise InvalidModel(f"the T2I-Adapter {name} was made for {made_for} and does not fit {model.name}")

    def residuals(self, inputs: Inputs, picture: Tensor) -> dict[str, list[Tensor]]:
        grey = picture.mean(dim=1, keepdim=True) if self.network.config.in_channels == 1 else picture
        return {"down_intrablock_additional_residuals": self.network(grey)}
