"""How fal's clients find our doors: they know hosts, where we have paths.

PyPI's client formats `https://{FAL_QUEUE_RUN_HOST}/...`, by default `queue.` before FAL_RUN_HOST: either the variable
holds our `host:port/queue`, or that name leads here. npm's sends everything to its `proxyUrl`, our `/fal/proxy`, and
names the address that it means in a header. Nothing is fetched from there: its host says which of our doors is meant.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fewstep.server.proxy import own_path

PROXY = "/fal/proxy"
TARGET = "x-fal-target-url"
_PLACES = {"fal.run": "", "queue.fal.run": "/queue", "rest.fal.ai": "", "rest.alpha.fal.ai": ""}


class FalAddresses:
    """ASGI middleware, inside of `Guard`: what it leads to is let in under the address that the client came to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers, path = Headers(scope=scope), own_path(scope)
            if path == PROXY:
                scope = _at(scope, *_meant(headers.get(TARGET, "")))
            elif headers.get("host", "").startswith("queue.") and not path.startswith("/queue/"):
                scope = _at(scope, "/queue" + path, scope["query_string"])
        await self._app(scope, receive, send)


def _at(scope: Scope, path: str, query: bytes) -> Scope:
    path = scope.get("root_path", "") + path
    return {**scope, "path": path, "raw_path": path.encode(), "query_string": query}


def _meant(target: str) -> tuple[str, bytes]:
    """Our path for an address of theirs; one of nothing where we have no such door."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return PROXY, b""
    place = _PLACES.get(parts.hostname or "")
    if place is None or parts.path.startswith("/storage/"):
        return PROXY, b""
    return place + unquote(parts.path), parts.query.encode()
