"""Which pictures a cache is made of, and how they are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewstep.core.settings import setting
from fewstep.errors import InvalidConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which pictures, and how they are prepared."""

    panel: ClassVar[str] = "Data"

    source: str = setting(
        option="--data",
        help="A folder of pictures (captions: metadata.jsonl, a .txt beside each, or the file names), WebDataset tars, "
        "a Hugging Face dataset's folder or id, or a cache.",
    )
    """A folder, tars, a dataset's folder or id, or a cache that `fewstep cache` made."""
    size: tuple[int, int] | None = setting(None, "--size", "Pixels: 512, or HEIGHTxWIDTH. [default: the model's]")
    """(height, width) in pixels, cropped from the middle; None: the model's own."""
    buckets: bool = setting(
        False,
        "--buckets/--no-buckets",
        "Several sizes of about the same area, for each picture the nearest to its shape; else all are cropped.",
    )
    """Instead of one size several of about its area, from 1:2 to 2:1, for each picture the one that it is cropped least
    in; a batch is of one size."""
    min_side: int = 32
    """Pictures with a shorter side are left out, and named."""
    flip: bool = setting(False, "--flip/--no-flip", "Also every picture's mirror image.")
    """Also every picture's mirror image; not where left and right matter, as in writing."""
    suffix: str = setting("", "--suffix", 'Added to every caption, to call a style: ", ink style".')
    """Added to every caption: what calls a style, such as ", ink style"."""
    image_column: str | None = setting(None, "--image-column", "Of a Hugging Face dataset.")
    caption_column: str | None = setting(None, "--caption-column", "Of a dataset, or in a tar's .json.")

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 8:
            raise InvalidConfig(f"size={self.size} is in pixels and must be at least 8 x 8")
