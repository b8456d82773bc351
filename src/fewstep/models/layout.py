"""Where a U-Net attends, and how deeply: what tells Stable Diffusion's families, and what was cut out of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# Width of the text states that cross-attention reads: what tells the families of Stable Diffusion apart.
FAMILIES = {384: "the starter", 768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
_BLOCK = re.compile(
    r"(?:(?P<way>down|up)_blocks[._](?P<block>\d+)[._]attentions[._](?P<place>\d+)|mid_block[._]attentions[._]0"
    r"|(?P<side>input|output)_blocks[._](?P<number>\d+)[._]1|middle_block[._]1)[._]transformer_blocks[._](?P<depth>\d+)[._]"
)


class Layout(NamedTuple):
    """How many transformer blocks lie in each place that attends, on the way down, in the middle, on the way up."""

    down: tuple[int, ...]
    middle: tuple[int, ...]
    up: tuple[int, ...]

    @property
    def blocks(self) -> int:
        return sum(self.down) + sum(self.middle) + sum(self.up)

    @classmethod
    def of(cls, names: Iterable[str]) -> Layout:
        """From the names of a U-Net's layers or tensors, diffusers' or those of Stability's code, with dots or as kohya
        writes them.
        """
        depths: dict[tuple[str, int, int], int] = {}
        for name in names:
            if found := _BLOCK.search(name):
                way = found["way"] or {"input": "down", "output": "up"}.get(found["side"] or "", "middle")
                place = (way, int(found["block"] or 0), int(found["place"] or found["number"] or 0))
                depths[place] = max(depths.get(place, 0), int(found["depth"]) + 1)
        ways = [[depths[place] for place in sorted(depths) if place[0] == way] for way in ("down", "middle", "up")]
        return cls(*map(tuple, ways))


_SD = Layout((1,) * 6, (1,), (1,) * 9)
_WHOLE = {768: _SD, 1024: _SD, 2048: Layout((2, 2, 10, 10), (10,), (10, 10, 10, 2, 2, 2))}
# By the width, and the ways down and up.
_PRUNED: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {
    (2048, (2, 2, 4, 4), (4, 4, 10, 2, 1, 1)): "SSD-1B",
}


def named_family(width: int | None) -> str:
    """The family of what reads text states of that width, in words."""
    return "an unknown base" if width is None else FAMILIES.get(width, f"a base with text states of {width}")


def family_of(width: int | None, layout: Layout) -> str:
    """The family of a U-Net, in words, by the width of its text states and its layout."""
    whole = None if width is None else _WHOLE.get(width)
    if whole is None or layout == whole:
        return named_family(width)
    assert width is not None
    if name := _PRUNED.get((width, layout.down, layout.up)):
        return name
    return f"a pruned {FAMILIES[width]} ({layout.blocks} transformer blocks, not {whole.blocks})"
