"""ControlNets (2302.05543): copies of the first half of a U-Net, which read a picture beside the noisy one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models.adapters.host import Host
from fewstep.models.families.base import Inputs
from fewstep.models.families.unet import ADDED
from fewstep.models.families.unets import named

if TYPE_CHECKING:
    from diffusers import ControlNetModel


@dataclass(frozen=True, eq=False)
class ControlNet:
    """One of diffusers' `ControlNetModel`."""

    network: ControlNetModel

    def check_fits(self, name: str, model: Host) -> None:
        width = self.network.config.cross_attention_dim
        if width != model.text_width:
            raise InvalidModel(
                f"the ControlNet {name} was made for {named(width, 'another base')} and {model.name} is "
                f"{named(model.text_width, 'of another kind')}"
            )

    def residuals(self, inputs: Inputs, picture: Tensor) -> dict[str, Tensor | Sequence[Tensor]]:
        down, middle = self.network(
            inputs["sample"],
            inputs["timestep"],
            encoder_hidden_states=inputs["encoder_hidden_states"],
            controlnet_cond=picture,
            added_cond_kwargs={name: inputs[name] for name in ADDED if name in inputs} or None,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
