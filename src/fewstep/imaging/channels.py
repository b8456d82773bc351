"""Any picture as red, green, blue and alpha in 8 bits each, whatever it was stored as."""

from __future__ import annotations

from PIL import Image, ImageCms

from fewstep.errors import InvalidRequest

_WIDE = ("I", "F")  # and I;16 in its byte orders: greys of more than 8 bits
_RANGES = (1, 255, 65_535)  # what stands for white where the mode does not say


def rgba(image: Image.Image) -> Image.Image:
    """The picture as RGBA.

    16-bit greys are scaled. Greys in `I` and `F`, whose white is not stated, are taken as 0 .. 1, 0 .. 255 or
    0 .. 65535, whichever is the smallest that holds them. Raises `InvalidRequest` for values beyond these.
    """
    match image.mode:
        case "RGBA":
            return image
        case mode if mode in _WIDE or mode.startswith("I;16"):
            return _from_wide(image)
        case "LAB":
            to_rgb = ImageCms.buildTransform(
                ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
            )
            converted = ImageCms.applyTransform(image, to_rgb)
            assert converted is not None
            return converted.convert("RGBA")
        case "La":
            return image.convert("LA").convert("RGBA")
        case "RGBX":
            return image.convert("RGB").convert("RGBA")
        case _:
            return image.convert("RGBA")


def on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB, its transparent parts on white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(rgba(image))
    return opaque.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    import numpy as np  # not needed for most pictures, and slow to import

    values = np.asarray(image if image.mode == "F" else image.convert("I"))
    low, top = float(values.min()), float(values.max())
    white = 65_535 if image.mode.startswith("I;16") else next((white for white in _RANGES if top <= white), None)
    if white is None or not low >= 0:
        raise InvalidRequest(
            f"the greys of a picture (mode {image.mode}) go from {low:g} to {top:g}; they must be from 0 to 1, 255 or "
            "65535: scale them first"
        )
    scaled = values.astype(np.int64) >> 8 if white == 65_535 else np.rint(values * (255 / white))
    picture = Image.fromarray(scaled.astype(np.uint8)).convert("RGBA")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        picture.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return picture
