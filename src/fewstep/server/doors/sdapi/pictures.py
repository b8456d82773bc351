"""Pictures in A1111's fields."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable

from PIL.Image import Image

from fewstep.errors import InvalidRequest
from fewstep.server.coding import decode


async def picture(text: str, what: str, read: Callable[[bytes, str], Image] = decode) -> Image:
    """A picture in base64, bare or as a data URL; an address is never fetched."""
    if text.startswith(("http:", "https:", "file:")):
        raise InvalidRequest(f"{what} is an address; this server fetches nothing: send the picture itself, in base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{what} is not base64: {error}") from error
    return await asyncio.to_thread(read, data, what)
