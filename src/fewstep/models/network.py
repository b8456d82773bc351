"""A diffusers UNet as the plain function that `core` wants: network(x_t, t, cond, w) -> raw output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fewstep.core.guidance import w_embedding
from fewstep.models.adapters.record import Adapters
from fewstep.models.adapters.steering import Inputs
from fewstep.models.conditioning import Conditioning
from fewstep.models.placement import dtype_of

ADDED = ("text_embeds", "time_ids", "image_embeds")  # inputs that diffusers takes together


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
        inputs = self.adapters.steered(self._inputs(x_t, t, cond, w), cond)
        x, times = inputs.pop("sample"), inputs.pop("timestep")
        added = {name: inputs.pop(name) for name in ADDED if name in inputs} or None
        with self.adapters.applied(cond, x_t.device):
            output: Tensor = self.unet(x, times, **inputs, added_cond_kwargs=added, return_dict=False)[0]
        return output

    def _inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        dtype = dtype_of(self.unet)
        inputs: Inputs = {"sample": x_t.to(dtype), "timestep": t, "encoder_hidden_states": cond.states.to(dtype)}
        if self.embeds_w and w is not None:
            embedded = w_embedding(w, self.unet.config.time_cond_proj_dim)
            inputs["timestep_cond"] = embedded.to(x_t.device, dtype)
        if self.reads_sizes:
            if cond.pooled is None or cond.sizes is None:
                raise ValueError("this network reads pooled text states and sizes: see `ModelBundle.framed`")
            inputs |= {"text_embeds": cond.pooled.to(dtype), "time_ids": cond.sizes.to(dtype)}
        return inputs
