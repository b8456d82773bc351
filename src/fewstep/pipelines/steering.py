"""What a network reads beside the words: sizes, and the pictures that steer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fewstep.imaging.pixels import to_pixels
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel

if TYPE_CHECKING:
    from fewstep.pipelines.plan import Plan
    from fewstep.pipelines.request import Control


def completed(model: LatentModel, plan: Plan, cond: Conditioning, *, away: bool = False) -> Conditioning:
    """Encoded words with all else that the networks read; `away` for those that guidance leads away from."""
    cond = model.framed(cond, plan.height, plan.width)
    if not any(plan.controls):
        return cond
    nets = 0 if model.controlnets is None else len(model.controlnets.names)
    cond = _with_shapes(cond, plan, plan.controls[:nets])
    return _with_images(cond, model, plan.controls[nets:], away)


def _with_shapes(cond: Conditioning, plan: Plan, controls: Sequence[Control | None]) -> Conditioning:
    """The pictures of ControlNets and T2I-Adapters, as large as the one that is painted."""
    if not any(controls):
        return cond
    pictures = torch.stack(
        [
            torch.zeros(3, plan.height, plan.width)
            if control is None
            else to_pixels(control.image, plan.height, plan.width)[0] / 2 + 0.5
            for control in controls
        ]
    )
    rows = len(cond)
    return replace(
        cond, controls=pictures.expand(rows, *pictures.shape), control_scales=_scales(controls).expand(rows, -1)
    )


def _with_images(
    cond: Conditioning, model: LatentModel, controls: Sequence[Control | None], away: bool
) -> Conditioning:
    """The pictures that IP-Adapters read, as tokens."""
    if model.image_prompts is None or not any(controls):
        return cond
    pictures = [None if each is None else each.image for each in controls]
    tokens = model.image_prompts.tokens(pictures, model.device, away=away)
    rows = len(cond)
    return replace(
        cond, image_tokens=tokens.expand(rows, *tokens.shape[1:]), image_scales=_scales(controls).expand(rows, -1)
    )


def _scales(controls: Sequence[Control | None]) -> torch.Tensor:
    return torch.tensor([[0.0 if control is None else control.scale for control in controls]])
