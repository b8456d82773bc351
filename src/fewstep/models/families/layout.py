"""`Layout`: where a U-Net attends, and how deeply, which tells what was cut out of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

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
