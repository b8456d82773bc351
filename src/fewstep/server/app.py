"""The server: every door on one engine, behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

import fewstep
from fewstep.errors import FewstepError
from fewstep.server.doors import door_of, doors
from fewstep.server.doors.base import Failure, Services, everybodys
from fewstep.server.engine import Engine, GenerationFailed
from fewstep.server.job import Reason
from fewstep.server.live import LiveDoor
from fewstep.server.live_schema import schema
from fewstep.server.places import PER_ADDRESS, Places
from fewstep.server.process import Ending
from fewstep.server.proxy import Proxied, Proxy, own_path
from fewstep.server.scheduler import Busy
from fewstep.server.security import Access, Guard

WEB = files("fewstep.server") / "web"
NO_STORE = {"cache-control": "no-store"}
STATUSES = {Reason.SHUTDOWN: 503, Reason.DEADLINE: 504, Reason.CANCELLED: 499, Reason.WITHHELD: 422}


def create_app(
    engine: Engine,
    access: Access | None = None,
    *,
    proxy: Proxy | None = None,
    metrics: bool = True,
    per_address: int = PER_ADDRESS,
) -> FastAPI:
    """The ASGI app; it starts and stops the engine. `per_address`: see `Places`.

    Run it with `process.Server`, which ends it well, and leaves what proxies say to it.
    """
    places = Places(engine, per_address)
    live = LiveDoor(engine, places)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await live.close()
        await engine.stop()

    app = FastAPI(
        title="fewstep",
        version=fewstep.__version__,
        summary="Pictures in one to four steps, for many people at once.",
        lifespan=lifespan,
        openapi_tags=[{"name": door.name, "description": door.about} for door in doors()],
        docs_url=None,  # FastAPI's viewers come from elsewhere; ours is web/docs.html
        redoc_url=None,
    )
    app.add_api_websocket_route("/v1/live", live)
    access = access or Access()
    services = Services(engine, access.passes, places)
    for door in doors():
        app.include_router(door.router(services), tags=[door.name])
    _add_health(app, engine, metrics)
    _add_errors(app)
    app.add_api_route("/v1/live/schema", schema, tags=["live"], summary="The messages of the live protocol")
    app.add_api_route("/", _page("index.html"), include_in_schema=False)
    app.add_api_route("/docs", _page("docs.html"), include_in_schema=False)
    app.mount("/web", StaticFiles(directory=str(WEB)), name="web")
    for door in doors():
        if door.middleware is not None:
            app.add_middleware(door.middleware)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Proxied, proxy=proxy or Proxy())
    app.add_middleware(Ending, engine=engine)  # the outermost
    return app


def _page(name: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return FileResponse(str(WEB / name), headers=NO_STORE)

    return page


class Readiness(TypedDict):
    ready: bool
    model: str
    waiting: int


def _add_health(app: FastAPI, engine: Engine, metrics: bool) -> None:
    @app.get("/healthz", tags=["operations"], summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], summary="Whether pictures can be generated")
    async def readyz(response: Response) -> Readiness:
        ready = engine.worker.alive and not engine.worker.stopping
        response.status_code = 200 if ready else 503
        return {"ready": ready, "model": engine.model.name, "waiting": engine.scheduler.num_waiting}

    if metrics:

        @app.get("/metrics", tags=["operations"], summary="For Prometheus")
        async def prometheus() -> Response:
            return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_errors(app: FastAPI) -> None:
    """Every error in the form that the clients of its door expect: see `failure`."""

    @app.exception_handler(FewstepError)
    async def ours(request: Request, error: FewstepError) -> Response:
        return failure(request, *_status(error), str(error), getattr(error, "retry_after", None))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return failure(request, 422, "invalid_request_error", f"{place or 'the body'}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
        return failure(request, error.status_code, kind, str(error.detail))


def _status(error: FewstepError) -> tuple[int, str]:
    if isinstance(error, Busy):
        return 429, "rate_limit_error"
    if not isinstance(error, GenerationFailed):
        return getattr(error, "status", 400), "invalid_request_error"
    return STATUSES.get(error.reason, 500), "server_error"


def failure(request: Request, status: int, kind: str, message: str, retry_after: float | None = None) -> Response:
    """What the clients of a path's door expect."""
    headers = {} if retry_after is None else {"retry-after": str(max(1, round(retry_after)))}
    trouble = Failure(own_path(request.scope), status, kind, message)
    door = door_of(trouble.path)
    return JSONResponse((everybodys if door is None else door.error_body)(trouble), status, headers)
