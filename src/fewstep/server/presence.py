"""Work for somebody who may hang up: HTTP servers do not stop it by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request

from fewstep.server.engine import GenerationFailed
from fewstep.server.job import Failed, Reason

T = TypeVar("T")


async def while_present(http: Request, work: Coroutine[None, None, T]) -> T:
    """What `work` returns; it is cancelled when the client goes, and `GenerationFailed` says so to nobody.

    The body must have been read: what comes after it is the news that the client has gone.
    """
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(http))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GenerationFailed(Failed(Reason.CANCELLED, "the client has gone"))
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
