"""A diffusers UNet as the plain function that `core` wants: network(x_t, t, cond, w) -> raw output."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewstep.core.guidance import w_embedding
from fewstep.models.adapters.record import Adapters
from fewstep.models.conditioning import Conditioning
from fewstep.models.placement import dtype_of


@dataclass(frozen=True, eq=False)
class UNetNetwork:
    """Rounds the inputs to the UNet's precision and gives it w where it was built to read w.

    unet   a `UNet2DConditionModel`; with `time_cond_proj_dim` set, w is embedded and enters beside the time
    adapters  those in it and beside it, of which every row takes what its conditioning says
    """

    unet: Any
    adapters: Adapters = field(default_factory=Adapters)

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
        loras, controlnets, image_prompts = (
            self.adapters.loras,
            self.adapters.controlnets,
            self.adapters.image_prompts,
        )
        steered = {} if controlnets is None else controlnets.steer(x, t, states, cond, added)
        if image_prompts is not None:
            added = {**(added or {}), **image_prompts.added(cond, x)}
        with loras.applied(cond.loras, x.device) if loras else nullcontext():
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
