"""fal's doors, under any application's name: one call, a stream, the queue, realtime connections and their passes.

    POST /{owner}/{app}                          one request, one answer (fal.run)
    POST /{owner}/{app}/stream                   the same with a preview of every step, as server-sent events
    POST /queue/{owner}/{app}                    hand in; .../requests/{id}, /status, /status/stream, /cancel
    WS   /{owner}/{app}/realtime                 see `realtime`
    POST /tokens/                                a pass for a browser, in the place of the token

How their clients come to these paths: see `addresses`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.server.doors import own_words
from fewstep.server.doors.base import Services
from fewstep.server.doors.fal import answers
from fewstep.server.doors.fal.accepted import Accepted
from fewstep.server.doors.fal.addresses import PROXY, TARGET
from fewstep.server.doors.fal.answers import for_json, linked
from fewstep.server.doors.fal.fields import Input
from fewstep.server.doors.fal.queue import Queue, Queued, patience
from fewstep.server.doors.fal.realtime import Realtime
from fewstep.server.engine import Engine, GenerationFailed
from fewstep.server.job import Failed, Generated, Pixels, Stepped
from fewstep.server.nulls import NullIsAbsent
from fewstep.server.passes import MAX_SECONDS
from fewstep.server.presence import while_present

TAILS = ("", "/image-to-image", "/inpainting")  # what their applications call the same thing with a picture


class TokenRequest(NullIsAbsent):
    """Whom a pass is for, as their clients ask for it."""

    allowed_apps: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=16)
    token_expiration: int = Field(120, ge=1, le=MAX_SECONDS)


def router(services: Services) -> APIRouter:
    calls, queue = Calls(services.engine), QueueCalls(services.engine)
    routes = APIRouter(dependencies=[Depends(_theirs)])
    routes.add_api_route(PROXY, _nowhere, methods=["GET", "POST", "PUT"], include_in_schema=False)
    for tail in TAILS:
        for path, call, summary in (
            ("/queue/{owner}/{app}" + tail, queue.submit, "Hand in, to be fetched later"),
            ("/{owner}/{app}" + tail, calls.run, "One request, one answer, as fal.run does it"),
            ("/{owner}/{app}" + tail + "/stream", calls.stream, "With a preview of every step"),
        ):
            routes.add_api_route(path, call, methods=["POST"], summary=summary, include_in_schema=not tail)
    base = "/queue/{owner}/{app}/requests/{id_}"
    routes.add_api_route(base, queue.answer, summary="The answer to what was handed in")
    routes.add_api_route(f"{base}/status", queue.status, summary="How it goes with what was handed in")
    routes.add_api_route(f"{base}/status/stream", queue.stream, summary="The same, whenever it changes")
    routes.add_api_route(f"{base}/cancel", queue.cancel, methods=["PUT"], summary="Do not generate it")
    routes.add_api_websocket_route("/{owner}/{app}/{path:path}", Realtime(services.engine, services.places))

    @routes.post("/tokens/", summary="A pass for a browser, in the place of the token")
    async def tokens(asked: TokenRequest) -> str:
        return services.passes.grant(asked.allowed_apps, asked.token_expiration)

    return routes


async def _theirs(http: HTTPConnection) -> None:
    """A misspelt address of another door is no application of theirs."""
    if http.path_params.get("owner") in own_words():
        raise HTTPException(404, f"there is nothing at {http.url.path}")


async def _nowhere(x_fal_target_url: Annotated[str, Header()] = "") -> None:
    """What `FalAddresses` found no door of ours for."""
    if "/storage/" in x_fal_target_url:
        raise InvalidRequest("this server keeps no uploads; send the picture itself, as a data URL")
    raise HTTPException(
        404, f"nothing here answers for {x_fal_target_url[:100]!r}; {TARGET} must name a fal.run address"
    )


def _client(http: HttpRequest) -> str:
    return http.client.host if http.client else "unknown"


class Calls:
    """What fal.run does: one request, answered while its client waits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(
        self, owner: str, app: str, body: Input, http: HttpRequest, response: Response
    ) -> answers.LinkedAnswer:
        """Pictures as data URLs."""
        started = time.perf_counter()
        accepted = await Accepted.of(self._engine, body)
        with self._engine.lane(_client(http)) as lane:
            pictures = await while_present(http, self._engine.pictures(lane, accepted.order))
        response.headers["x-fal-request-id"] = secrets.token_urlsafe(24)
        return for_json(await accepted.answer(pictures, time.perf_counter() - started))

    async def stream(self, owner: str, app: str, body: Input, http: HttpRequest) -> StreamingResponse:
        """A preview of each step as `images`, with `step` and `num_steps`; last the answer of `run`."""
        accepted = await Accepted.of(self._engine, body)
        return StreamingResponse(self._events(_client(http), accepted), media_type="text/event-stream")

    async def _events(self, client: str, accepted: Accepted) -> AsyncIterator[str]:
        started, done = time.perf_counter(), dict[int, Pixels]()
        try:
            with (
                self._engine.lane(client) as lane,
                self._engine.submit(lane, accepted.order, previews=True) as ticket,
            ):
                async for index, event in ticket:
                    match event:
                        case Stepped(preview=pixels) if pixels is not None:
                            image = linked(await accepted.image(pixels, index))
                            yield _sse(
                                {
                                    "images": [image],
                                    "step": event.index + 1,
                                    "num_steps": event.num_steps,
                                    "picture": index,
                                }
                            )
                        case Generated(pixels=pixels):
                            done[index] = pixels
                        case Failed():
                            raise GenerationFailed(event)
            pictures = [done[index] for index in sorted(done)]
            yield _sse(for_json(await accepted.answer(pictures, time.perf_counter() - started)))
        except FewstepError as error:
            yield _sse({"error": str(error), "detail": str(error)})


def _sse(data: answers.LinkedAnswer | answers.Preview | answers.Failure) -> str:
    return f"data: {json.dumps(data)}\n\n"


class QueueCalls:
    """What queue.fal.run does."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._queue = engine, Queue(engine)

    async def submit(
        self,
        owner: str,
        app: str,
        body: Input,
        http: HttpRequest,
        fal_webhook: str | None = None,
        x_fal_request_timeout: Annotated[str | None, Header()] = None,
    ) -> answers.Submitted:
        """The request's id, and where to ask for it. Its first picture is started within `x-fal-request-timeout`
        seconds, at most 600, or it fails; then it takes the time that it needs, as fal has it.
        """
        if fal_webhook is not None:
            raise InvalidRequest("this server calls no webhooks; poll the status, or stream it")
        start_within = patience(x_fal_request_timeout)
        accepted = await Accepted.of(self._engine, body)
        request = await self._queue.submit(_client(http), f"{owner}/{app}", accepted, start_within)
        return {**self._addresses(request, http), "status": "IN_QUEUE", "queue_position": request.position}

    async def status(
        self, owner: str, app: str, id_: str, http: HttpRequest, response: Response
    ) -> answers.AddressedStatus:
        """IN_QUEUE with a place in the line, IN_PROGRESS or COMPLETED."""
        request = self._queue.find(f"{owner}/{app}", id_)
        response.status_code = 200 if request.task.done() else 202
        return {**self._addresses(request, http), **request.status}

    async def stream(self, owner: str, app: str, id_: str) -> StreamingResponse:
        """Server-sent events, the last when it is completed."""
        request = self._queue.find(f"{owner}/{app}", id_)
        return StreamingResponse(self._queue.statuses(request), media_type="text/event-stream")

    async def answer(self, owner: str, app: str, id_: str, response: Response) -> answers.LinkedAnswer:
        """What `run` would have answered, its errors too; 400 while it is not completed."""
        request = self._queue.find(f"{owner}/{app}", id_)
        if not request.task.done():
            raise InvalidRequest(f"request {id_} is still {request.status['status']}")
        response.headers["x-fal-request-id"] = request.id
        return for_json(request.answer)

    async def cancel(self, owner: str, app: str, id_: str) -> JSONResponse:
        """It is not generated, or not to its end; 400 where it is completed already."""
        request = self._queue.find(f"{owner}/{app}", id_)
        if request.task.done():
            return JSONResponse({"status": "ALREADY_COMPLETED", "detail": "it is completed already"}, 400)
        request.cancel()
        await asyncio.wait((request.task,), timeout=5)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    def _addresses(self, request: Queued, http: HttpRequest) -> answers.Addresses:
        """Where to ask: on the host that the client came to, which may be the queue's own (see `addresses`)."""
        url = f"{http.base_url}queue/{request.app}/requests/{request.id}"
        return {
            "request_id": request.id,
            "response_url": url,
            "status_url": f"{url}/status",
            "cancel_url": f"{url}/cancel",
        }
