"""AUTOMATIC1111's API."""

from __future__ import annotations

from collections.abc import Mapping

from fewstep.server.doors.base import Door, Failure, everybodys
from fewstep.server.doors.sdapi.routes import router


def error_body(failure: Failure) -> Mapping[str, object]:
    """Its `error` is a word; ControlNet's paths, of an extension, answer as FastAPI does."""
    body = everybodys(failure)
    return {**body, "error": failure.kind} if failure.path.startswith("/sdapi/") else body


DOOR = Door(
    name="AUTOMATIC1111",
    about="The API of AUTOMATIC1111's web UI, with ControlNet's, for its clients.",
    prefixes=("/sdapi", "/controlnet"),
    router=router,
    rank=30,
    error_body=error_body,
    exposed_headers=("x-fewstep-warnings",),
)
