"""Several pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

GAP = 4


def contact_sheet(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Pictures of one size in rows of `columns` (default: as square as it goes), on white."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * (width + GAP), row * (height + GAP)))
    return sheet
