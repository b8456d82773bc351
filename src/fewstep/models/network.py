"""A diffusers UNet as the plain function that `core` wants: network(x_t, t, cond, w) -> raw output."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewstep.core.guidance import w_embedding
from fewstep.models.conditioning import Conditioning
from fewstep.models.placement import dtype_of

if TYPE_CHECKING:
    from fewstep.models.adapters.controlnet.nets import ControlNets
    from fewstep.models.adapters.ip_adapter import ImagePrompts
    from fewstep.models.adapters.lora.stack import LoraStack


@dataclass(frozen=True, eq=False)
class UNetNetwork:
    """Rounds the inputs to the UNet's precision and gives it w where it was built to read w.

    unet   a `UNet2DConditionModel`; with `time_cond_proj_dim` set, w is embedded and enters beside the time
    loras  the adapters in it, of which every row takes what its conditioning says
    controlnets  what steers it by the pictures that its conditioning holds
    image_prompts  the IP-Adapters in it
    """

    unet: Any
    loras: LoraStack | None = None
    controlnets: ControlNets | None = None
    image_prompts: ImagePrompts | None = None

    @property
    def embeds_w(self) -> bool:
        """Whether w is an input of the network (a guidance-distilled model)."""
        return self.unet.config.time_cond_proj_dim is not None

    @property
    def reads_sizes(self) -> bool:
        """Whether sizes and crops are inputs of the network (SDXL), beside pooled text states."""
        return self.unet.config.addition_embed_type == "text_time"

    def __call__(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        dtype = dtype_of(self.unet)
        timestep_cond = None
        if self.embeds_w and w is not None:
            timestep_cond = w_embedding(w, self.unet.config.time_cond_proj_dim).to(x_t.device, dtype)
        x, states, added = x_t.to(dtype), cond.states.to(dtype), self._added(cond, dtype)
        steered = {} if self.controlnets is None else self.controlnets.steer(x, t, states, cond, added)
        if self.image_prompts is not None:
            added = {**(added or {}), **self.image_prompts.added(cond, x)}
        with self.loras.applied(cond.loras, x.device) if self.loras else nullcontext():
            output: Tensor = self.unet(
                x,
                t,
                encoder_hidden_states=states,
                timestep_cond=timestep_cond,
                added_cond_kwargs=added,
                return_dict=False,
                **steered,
            )[0]
        return output

    def _added(self, cond: Conditioning, dtype: torch.dtype) -> dict[str, Tensor] | None:
        if not self.reads_sizes:
            return None
        if cond.pooled is None or cond.sizes is None:
            raise ValueError("this network reads pooled text states and sizes: see `ModelBundle.framed`")
        return {"text_embeds": cond.pooled.to(dtype), "time_ids": cond.sizes.to(dtype)}
