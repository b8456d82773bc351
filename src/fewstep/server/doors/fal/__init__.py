"""The API of fal's applications."""

from __future__ import annotations

from fewstep.server.doors.base import Door
from fewstep.server.doors.fal.addresses import FalAddresses
from fewstep.server.doors.fal.routes import router

DOOR = Door(
    name="fal",
    about="fal's API, under any application's name: a call, a stream, the queue, realtime connections.",
    prefixes=("/queue", "/fal", "/tokens"),
    router=router,
    rank=1000,
    exposed_headers=("x-fal-request-id",),
    token_parameters=("fal_jwt_token",),
    middleware=FalAddresses,
)
