"""What a door is: the paths that the clients of one API know, and how they are answered there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.types import ASGIApp

    from fewstep.server.engine import Engine
    from fewstep.server.passes import Passes
    from fewstep.server.places import Places


@dataclass(frozen=True)
class Services:
    """What every door leads to: the engine, the passes for browsers, and places for those who stay connected."""

    engine: Engine
    passes: Passes
    places: Places


@dataclass(frozen=True)
class Failure:
    """An error that a client is told of. `kind` is OpenAI's word for it: "invalid_request_error", for example."""

    path: str
    status: int
    kind: str
    message: str


def everybodys(failure: Failure) -> Mapping[str, object]:
    """One body for all: OpenAI's clients read `error.message`, FastAPI's and A1111's `detail`."""
    error = {"message": failure.message, "type": failure.kind, "param": None, "code": None}
    return {"error": error, "detail": failure.message, "errors": failure.message}


@dataclass(frozen=True, kw_only=True)
class Door:
    """One API of the server.

    name, about       the heading of its section in the docs page, and the line below that
    prefixes          where its paths begin: whole words, without a slash at the end
    router            makes its routes
    rank              its place among the doors. A request goes to the first whose route fits, so one that answers under
                      any path comes last
    error_body        the JSON that its clients expect where something goes wrong
    open_prefixes     paths that need no token, because a name in them is the secret
    exposed_headers   of its answers, those that a page from elsewhere may read
    token_parameters  in which a client of its own may show the token, besides `token`
    middleware        around all routes, inside the guard: leads other addresses of its clients to its paths
    """

    name: str
    about: str
    prefixes: tuple[str, ...]
    router: Callable[[Services], APIRouter]
    rank: int = 100
    error_body: Callable[[Failure], Mapping[str, object]] = everybodys
    open_prefixes: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    token_parameters: tuple[str, ...] = ()
    middleware: Callable[[ASGIApp], ASGIApp] | None = None
