"""U-Nets by the width of the text states that they read, and by their layers: all that many files say of a base."""

from __future__ import annotations

from fewstep.models.config import Config
from fewstep.models.families import families
from fewstep.models.families.layout import Layout
from fewstep.models.families.unet import UNetFamily


def unet_families() -> tuple[UNetFamily, ...]:
    return tuple(family for family in families() if isinstance(family, UNetFamily))


def with_width(width: int | None) -> UNetFamily | None:
    """The published family, as a whole and not pruned; None for a width that is nobody's."""
    of_width = [family for family in unet_families() if family.text_width == width]
    return next((family for family in of_width if not family.pruned), None)


def named(width: int | None, otherwise: str | None = None) -> str:
    """The family of what reads text states of that width, in words."""
    if width is None:
        return otherwise or "an unknown base"
    family = with_width(width)
    return family.name if family else otherwise or f"a base with text states of {width}"


def named_by_config(config: Config) -> str:
    """The family of a U-Net, or of a ControlNet's, with that config, in words."""
    width = config.get("cross_attention_dim")
    return named(width if isinstance(width, int) else None)


def with_layers(width: int | None, layout: Layout) -> tuple[UNetFamily | None, str]:
    """The family of a U-Net of that layout, where one has it, and its name in words; what was cut out is said."""
    for family in unet_families():
        if family.text_width == width and family.fits(layout):
            return family, family.name
    whole = with_width(width)
    if whole is None or whole.layout is None:
        return whole, named(width)
    return None, f"a pruned {whole.name} ({layout.blocks} transformer blocks, not {whole.layout.blocks})"
