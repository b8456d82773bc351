"""OpenAI's Images API."""

from __future__ import annotations

from fewstep.server.doors.base import Door
from fewstep.server.doors.openai.routes import router

DOOR = Door(
    name="OpenAI Images",
    about="OpenAI's Images API, also without /v1. Its clients need another base_url, and nothing else.",
    prefixes=("/v1/images", "/v1/models", "/images", "/models"),
    router=router,
    rank=20,
    open_prefixes=("/v1/images/files/", "/images/files/"),
)
