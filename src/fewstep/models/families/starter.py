"""The starter, which comes with fewstep: a small base of the kind of Stable Diffusion."""

from __future__ import annotations

from fewstep.models.families.unet import UNetFamily

STARTER = UNetFamily(name="the starter", text_width=384)
FAMILIES = (STARTER,)
