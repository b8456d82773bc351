"""`Adapters`: what a model has beside the networks that it was read with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fewstep.models.adapters.lora.stack import LoraStack
    from fewstep.models.adapters.steering import Steering
    from fewstep.models.conditioning import Conditioning
    from fewstep.models.families.base import Inputs
    from fewstep.models.text.own_words import Embeddings
    from fewstep.models.traits import Control


@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapters of a model, by their kinds; None where it has none of a kind.

    loras          that change layers of its networks (`with_loras`)
    embeddings     words of one's own that prompts may use (`with_embeddings`)
    controlnets    ControlNets and T2I-Adapters, which steer it by pictures (`with_controlnets`)
    image_prompts  IP-Adapters, which read pictures as prompts (`with_image_prompts`)
    """

    loras: LoraStack | None = None
    embeddings: Embeddings | None = None
    controlnets: Steering | None = None
    image_prompts: Steering | None = None

    @property
    def steering(self) -> tuple[Steering, ...]:
        """What steers by pictures, kind by kind."""
        return tuple(each for each in (self.controlnets, self.image_prompts) if each is not None)

    @property
    def steered_by(self) -> tuple[str, ...]:
        """The names of ControlNets and T2I-Adapters, then of IP-Adapters."""
        return tuple(name for each in self.steering for name in each.names)

    def steer(
        self,
        cond: Conditioning,
        height: int,
        width: int,
        controls: Sequence[Control | None],
        device: torch.device,
        *,
        away: bool = False,
    ) -> Conditioning:
        """`cond` with what its rows follow, one of `controls` for each of `steered_by`; None: nothing.

        height, width  of the picture that is made
        away           whether guidance leads away from these rows
        """
        first = 0
        for each in self.steering:
            its = controls[first : first + len(each.names)]
            first += len(each.names)
            if any(its):
                cond = each.conditioned(cond, height, width, its, device, away=away)
        return cond

    def steered(self, inputs: Inputs, cond: Conditioning) -> Inputs:
        """The inputs of the denoising network, with what makes it follow the pictures of `cond`."""
        for each in self.steering:
            inputs = each.steered(inputs, cond)
        return inputs

    def applied(self, cond: Conditioning, device: torch.device) -> AbstractContextManager[None]:
        """Run the denoising network with as much of the LoRAs as the rows of `cond` say."""
        return nullcontext() if self.loras is None else self.loras.applied(cond.loras, device)
