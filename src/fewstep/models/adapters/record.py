"""`Adapters`: what a model has beside the networks that it was read with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.models.adapters.controlnet.nets import ControlNets
    from fewstep.models.adapters.embeddings import Embeddings
    from fewstep.models.adapters.ip_adapter import ImagePrompts
    from fewstep.models.adapters.lora.stack import LoraStack


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
    controlnets: ControlNets | None = None
    image_prompts: ImagePrompts | None = None
