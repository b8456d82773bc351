"""What a network reads beside the words: sizes, and the pictures that steer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel

if TYPE_CHECKING:
    from fewstep.pipelines.plan import Plan


def completed(model: LatentModel, plan: Plan, cond: Conditioning, *, away: bool = False) -> Conditioning:
    """Encoded words with all else that the networks read; `away` for those that guidance leads away from."""
    cond = model.framed(cond, plan.height, plan.width)
    if not any(plan.controls):
        return cond
    return model.adapters.steer(cond, plan.height, plan.width, plan.controls, model.device, away=away)
