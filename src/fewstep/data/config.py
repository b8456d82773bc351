"""Which pictures a cache is made of, and how they are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.errors import InvalidConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which pictures, and how they are prepared."""

    source: str
    """A folder, tars, a dataset's folder or id, or a cache that `fewstep cache` made."""
    size: tuple[int, int] | None = None
    """(height, width) in pixels, cropped from the middle; None: the model's own."""
    buckets: bool = False
    """Instead of one size several of about its area, from 1:2 to 2:1, for each picture the one that it is cropped least
    in; a batch is of one size."""
    min_side: int = 32
    """Pictures with a shorter side are left out, and named."""
    flip: bool = False
    """Also every picture's mirror image; not where left and right matter, as in writing."""
    suffix: str = ""
    """Added to every caption: what calls a style, such as ", ink style"."""
    image_column: str | None = None
    caption_column: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 8:
            raise InvalidConfig(f"size={self.size} is in pixels and must be at least 8 x 8")
