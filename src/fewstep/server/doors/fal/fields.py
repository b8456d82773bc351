"""What fal's LCM applications take, field by field, and the request that it means here."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Literal

from PIL.Image import Image
from pydantic import ConfigDict, Field

from fewstep.errors import InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.models.text.prompt_weights import literal
from fewstep.pipelines.request import Request
from fewstep.server.coding import decode, decode_mask
from fewstep.server.fields import served
from fewstep.server.nulls import NullIsAbsent

SIZES = {  # fal's names, as (width, height) in units of the model's own size
    "square_hd": (2.0, 2.0),
    "square": (1.0, 1.0),
    "portrait_4_3": (0.75, 1.0),
    "portrait_16_9": (0.5625, 1.0),
    "landscape_4_3": (1.0, 0.75),
    "landscape_16_9": (1.0, 0.5625),
}
_WITHOUT_EFFECT = {"enable_safety_checker", "enable_safety_checks", "expand_prompt"}


class Size(NullIsAbsent):
    width: Annotated[int, served("width")]
    height: Annotated[int, served("height")]


class Lora(NullIsAbsent):
    """`path` is a name that the server knows; it fetches nothing and opens no paths."""

    path: str = Field(max_length=200)
    scale: float = 1.0


class Input(NullIsAbsent):
    """What fal's LCM applications take; fields that mean nothing here come back in `ignored`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: Annotated[str, served("prompt")] = ""
    negative_prompt: Annotated[str, served("negative_prompt")] = ""
    image_size: Size | str | None = None
    num_inference_steps: Annotated[int | None, served("steps")] = None
    guidance_scale: Annotated[float | None, served("guidance_scale")] = None
    seed: Annotated[int | None, served("seed")] = None
    num_images: int = Field(1, ge=1, le=8)
    format: Literal["jpeg", "png"] = "jpeg"
    sync_mode: bool = True
    request_id: str = Field("", max_length=200)
    image_url: str | None = None
    image_bytes: bytes | None = None
    mask_url: str | None = None
    mask_bytes: bytes | None = None
    strength: Annotated[float | None, served("strength")] = None
    model_name: str | None = None
    loras: list[Lora] = Field([], max_length=16)

    @property
    def ignored(self) -> list[str]:
        """Names of the fields that do nothing here, at most 20."""
        return sorted(str(name)[:40] for name in (self.model_extra or {}) if name not in _WITHOUT_EFFECT)[:20]

    async def request(self, model: LatentModel) -> Request:
        """What `model` is to generate, the prompts to the letter; raises `InvalidRequest`."""
        width, height = _size(self.image_size, model)
        image = await _picture(self.image_bytes, self.image_url, "image", decode)
        mask = await _picture(self.mask_bytes, self.mask_url, "mask", decode_mask)
        return Request.of(
            literal(self.prompt),
            self.seed,
            self.num_images,
            negative_prompt=literal(self.negative_prompt),
            steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            width=width,
            height=height,
            image=image,
            mask=mask,
            strength=None if image is None else self.strength,
            loras={lora.path: lora.scale for lora in self.loras} or None,
        )


def _size(size: Size | str | None, model: LatentModel) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    if isinstance(size, Size):
        return size.width, size.height
    if size not in SIZES:
        known = ", ".join(SIZES)
        raise InvalidRequest(f"image_size is {size[:40]!r}; it must be one of {known}, or a width and a height")
    (own_height, own_width), unit = model.traits.default_size, model.traits.pixels_per_latent
    across, down = SIZES[size]
    return round(across * own_width / unit) * unit, round(down * own_height / unit) * unit


async def _picture(data: bytes | None, url: str | None, what: str, read: Callable[[bytes, str], Image]) -> Image | None:
    if data is None and url is not None:
        data = _data_url(url, what)
    return None if data is None else await asyncio.to_thread(read, data, f"the {what}")


def _data_url(url: str, what: str) -> bytes:
    kind, comma, data = url.partition(",")
    if not (kind.startswith("data:") and comma and kind.endswith(";base64")):
        raise InvalidRequest(f"{what}_url must be a data URL; this server fetches nothing from elsewhere")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{what}_url is not base64: {error}") from error
