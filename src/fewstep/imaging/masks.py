"""Any picture as a mask: greys that say how much of each place is inpainted."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageOps

from fewstep.errors import InvalidRequest
from fewstep.imaging.channels import rgba

LEAST = 8  # of 255: a mask that is nowhere lighter is a mistake, such as 0 and 1 for 0 and 255


def mask_of(picture: Image.Image) -> Image.Image:
    """Any picture as a mask (mode L, 255 is inpainted): its alpha where any of that is not opaque, else its grey.

    This is A1111's contract: opaque or white is inpainted. Raises `InvalidRequest` for values that have no scale.
    """
    if picture.mode == "L" and not picture.has_transparency_data:
        return picture
    whole = rgba(picture)
    alpha = whole.getchannel("A")
    mask = whole.convert("RGB").convert("L") if _least(alpha) == 255 else alpha
    mask.info.pop("transparency", None)  # of what it was read from; a mask has none
    return mask


def mask_of_transparency(picture: Image.Image, what: str = "the mask") -> Image.Image:
    """The same by OpenAI's contract, the other way round: the transparent part is inpainted.

    Raises `InvalidRequest` where nothing is transparent.
    """
    alpha = rgba(picture).getchannel("A")
    if _least(alpha) == 255:
        raise InvalidRequest(f"{what} has no transparent part; make the place that is to be painted transparent")
    return ImageChops.invert(alpha)


def check_mask(mask: Image.Image) -> None:
    """Raises `InvalidRequest` for a mask (as `mask_of` gives it) in which nothing is inpainted."""
    lightest = mask.getextrema()[1]
    assert isinstance(lightest, int)
    if lightest < LEAST:
        raise InvalidRequest(
            "the mask is black all over"
            + (f" (its lightest place is {lightest} of 255)" if lightest else "")
            + ", so nothing would be painted; paint the place white, or leave it opaque where the rest is transparent"
        )


def mask_fitted(mask: Image.Image, height: int, width: int) -> Image.Image:
    """A mask (L) of exactly this size, cut like its picture."""
    return ImageOps.fit(mask_of(mask), (width, height), Image.Resampling.BOX)


def _least(channel: Image.Image) -> int:
    least = channel.getextrema()[0]
    assert isinstance(least, int)
    return least
