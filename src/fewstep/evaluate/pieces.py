"""What lies on white ground: the ink of drawings, their connected pieces, and each of them as a picture of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 128  # pixels to which pictures are scaled before they are taken apart
WHITE = 0.12  # how far below white, in [-1, 1], a channel must be to be ink; soft edges and JPEG stay below
SMALLEST = 0.15  # of the largest piece: smaller ones are dots, steam, whiskers


def ink_of(pixels: Tensor) -> Tensor:
    """Of pictures (B, 3, H, W) in [-1, 1], scaled to 128 x 128: where something is drawn, (B, 128, 128) bool."""
    return scaled(pixels).amin(1) < 1 - WHITE


def scaled(pixels: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] at 128 x 128."""
    if pixels.shape[-2:] == (SIDE, SIDE):
        return pixels
    return functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)


def pieces_of(ink: Tensor) -> list[Tensor]:
    """The connected pieces (8 neighbours) of one picture's ink (H, W), the largest first; (H, W) bool each.

    Pieces of less than `SMALLEST` of the largest are left out.
    """
    height, width = ink.shape
    there = ink.float()
    label = torch.arange(1.0, height * width + 1).view(height, width) * there
    while True:  # every pixel takes the greatest label around it, until none changes
        spread = functional.max_pool2d(label[None, None], 3, stride=1, padding=1)[0, 0] * there
        if torch.equal(spread, label):
            break
        label = spread
    numbers, sizes = label[ink].unique(return_counts=True)
    order = sizes.argsort(descending=True, stable=True)
    return [label == numbers[i] for i in order.tolist() if sizes[i] >= SMALLEST * sizes[order[0]]]


def alone(picture: Tensor, part: Tensor, *, fill: float = 0.94) -> Tensor:
    """What a part (H, W) bool of a picture (3, H, W) shows, in the middle of a white square that it fills; (3, H, W).

    Around the part everything is white.
    """
    rows, columns = part.any(1).nonzero(), part.any(0).nonzero()
    if len(rows) == 0:
        return torch.ones_like(picture)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    cut = torch.where(part, picture, 1.0)[:, top:bottom, left:right]
    side = round(max(cut.shape[1:]) / fill)
    above, before = (side - cut.shape[1]) // 2, (side - cut.shape[2]) // 2
    around = (before, side - cut.shape[2] - before, above, side - cut.shape[1] - above)
    square = functional.pad(cut, around, value=1.0)
    size = (picture.shape[1], picture.shape[2])
    return functional.interpolate(square[None], size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


def halves_of(ink: Tensor) -> tuple[Tensor, Tensor] | None:
    """Ink (H, W) cut in two where least of it is, near the middle: left and right, or above and below.

    None where there is no ink, or one side would be all but empty.
    """
    if not ink.any():
        return None
    cuts = [(*_cut(ink.sum(0)), False), (*_cut(ink.sum(1)), True)]
    _, place, across = min(cuts, key=lambda cut: cut[0])
    first = torch.zeros_like(ink)
    if across:
        first[:place] = True
    else:
        first[:, :place] = True
    one, other = ink & first, ink & ~first
    total = int(ink.sum())
    return (one, other) if min(int(one.sum()), int(other.sum())) > 0.08 * total else None


def _cut(along: Tensor) -> tuple[float, int]:
    """How much ink the emptiest line has in the middle part of the inked ones, and where that is."""
    lines = along.nonzero()[:, 0]
    first, last = int(lines[0]), int(lines[-1]) + 1
    reach = last - first
    low, high = first + round(0.3 * reach), last - round(0.3 * reach)
    if high <= low:
        return float("inf"), first
    middle = (first + last) / 2
    amounts = [(float(along[i]), abs(i - middle), i) for i in range(low, high)]
    least, _, place = min(amounts)
    return least, place
