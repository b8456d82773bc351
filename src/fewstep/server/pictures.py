"""The pictures that a live session was sent: one to start from, its mask, and what ControlNets read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from PIL import Image

from fewstep.server.coding import decode, decode_mask
from fewstep.server.likeness import difference, read


@dataclass(eq=False)
class Pictures:
    """The newest of each; None: there is none. `controls` by the ControlNets' names."""

    image: Image.Image | None = None
    mask: Image.Image | None = None
    controls: dict[str, Image.Image] = field(default_factory=dict)
    _thumbnail: Image.Image | None = None

    @property
    def num_bytes(self) -> int:
        """Of their pixels."""
        pictures = (self.image, self.mask, *self.controls.values())
        return sum(each.width * each.height * len(each.getbands()) for each in pictures if each)

    def forget(self, *, image: bool = False, mask: bool = False, controls: bool = False) -> None:
        """The picture to start from (and then the mask, which means nothing without it), the mask alone, or what
        ControlNets read.
        """
        if controls:
            self.controls = {}
        if image:
            self.image = self._thumbnail = None
        if image or mask:
            self.mask = None

    async def start_from(self, data: bytes, skip_similar: float) -> bool:
        """A new picture to start from; False, and the old one stays, where it differs less than `skip_similar`."""
        image, thumbnail = await asyncio.to_thread(read, data)
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is not None and difference(before, thumbnail) < skip_similar:
            self._thumbnail = before  # the last that was generated: slow changes add up
            return False
        self.image = image
        return True

    async def inpaint(self, data: bytes) -> None:
        self.mask = await asyncio.to_thread(decode_mask, data)

    async def steer(self, name: str, data: bytes) -> None:
        self.controls[name] = await asyncio.to_thread(decode, data, f"the picture for {name}")
