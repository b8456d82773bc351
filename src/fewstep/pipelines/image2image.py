"""Image to image and inpainting: a picture and words in, pictures out. The painting itself is `text2image.paint`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from fewstep.models.bundle import ModelBundle
from fewstep.pipelines.image_file import as_image
from fewstep.pipelines.plan import complete
from fewstep.pipelines.request import Request
from fewstep.pipelines.text2image import OnStep, Options, as_controls, generate

if TYPE_CHECKING:
    from PIL.Image import Image

    from fewstep.pipelines.text2image import Picture


class StrengthOptions(Options, total=False):
    """The options, with those that only a picture to start from gives a meaning."""

    strength: float | None
    mask: Image | str | Path | None


@overload
def image2image(
    model: ModelBundle,
    prompt: str,
    image: Image | str | Path,
    *,
    num_images: None = None,
    **options: Unpack[StrengthOptions],
) -> Image: ...
@overload
def image2image(
    model: ModelBundle,
    prompt: str,
    image: Image | str | Path,
    *,
    num_images: int,
    **options: Unpack[StrengthOptions],
) -> list[Image]: ...
@overload
def image2image(
    model: ModelBundle,
    prompt: list[str] | tuple[str, ...],
    image: Image | str | Path,
    *,
    num_images: int | None = None,
    **options: Unpack[StrengthOptions],
) -> list[Image]: ...
def image2image(
    model: ModelBundle,
    prompt: str | list[str] | tuple[str, ...],
    image: Image | str | Path,
    *,
    strength: float | None = None,
    mask: Image | str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    num_images: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    height: int | None = None,
    width: int | None = None,
    sampler: str | None = None,
    timesteps: Sequence[int] | None = None,
    loras: Mapping[str, float] | None = None,
    controls: Mapping[str, Picture | tuple[Picture, float]] | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
) -> Image | list[Image]:
    """Paint `prompt` over `image`.

    image     a picture or its path; it is scaled and cropped around its middle to the model's size
    strength  how much is painted anew, from just above 0 (nearly nothing) to 1 (everything); default 0.5, and 1
              where a mask says what is to stay
    mask      a picture of the same shape or its path: white is painted anew, black stays, with a soft seam

    Everything else as in `text2image`.
    """
    request = Request.of(
        prompt,
        seed,
        num_images,
        image=as_image(image),
        mask=None if mask is None else as_image(mask),
        strength=strength,
        steps=steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        sampler=sampler,
        timesteps=None if timesteps is None else tuple(timesteps),
        loras=loras,
        controls=as_controls(controls),
    )
    images = generate(model, complete(request, model, batch_size), on_step)
    return images[0] if isinstance(prompt, str) and num_images is None else images
