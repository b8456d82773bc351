"""Image to image and inpainting: a picture and words in, pictures out. The sampling itself is `sample.sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from fewstep.imaging.reading import as_image
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import Asked, Options
from fewstep.pipelines.generate import OnStep, generate
from fewstep.pipelines.text2image import requested

if TYPE_CHECKING:
    from PIL.Image import Image


class Over(Asked, total=False):
    """What may be asked, with what only a picture to start from gives a meaning."""

    strength: float | None
    mask: Image | str | Path | None


class StrengthOptions(Options, Over, total=False):
    """The options, with those that only a picture to start from gives a meaning."""


@overload
def image2image(
    model: LatentModel,
    prompt: str,
    image: Image | str | Path,
    *,
    num_images: None = None,
    **options: Unpack[StrengthOptions],
) -> Image: ...
@overload
def image2image(
    model: LatentModel,
    prompt: str,
    image: Image | str | Path,
    *,
    num_images: int,
    **options: Unpack[StrengthOptions],
) -> list[Image]: ...
@overload
def image2image(
    model: LatentModel,
    prompt: list[str] | tuple[str, ...],
    image: Image | str | Path,
    *,
    num_images: int | None = None,
    **options: Unpack[StrengthOptions],
) -> list[Image]: ...
def image2image(
    model: LatentModel,
    prompt: str | list[str] | tuple[str, ...],
    image: Image | str | Path,
    *,
    num_images: int | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
    **options: Unpack[Over],
) -> Image | list[Image]:
    """Generate `prompt` over `image`.

    image     a picture or its path; it is scaled and cropped around its middle to the model's size

    and, of options:

    strength  how much is generated anew, from just above 0 (nearly nothing) to 1 (everything); default 0.5, and 1
              where a mask says what is to stay
    mask      a picture of the same shape or its path: white is inpainted, black stays, with a soft seam; one with
              transparent parts: what is opaque is

    Everything else as in `text2image`.
    """
    mask = options.get("mask")
    pictures = {"image": as_image(image), "mask": None if mask is None else as_image(mask)}
    images = generate(
        model, *requested(prompt, num_images, {**options, **pictures}), batch_size=batch_size, on_step=on_step
    )
    return images[0] if isinstance(prompt, str) and num_images is None else images
