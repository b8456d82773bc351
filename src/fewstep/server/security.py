"""Who may come in: token, origin, host, and how much one may send. ASGI middleware, for HTTP and WebSockets alike."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.errors import InvalidRequest
from fewstep.server.addresses import is_loopback
from fewstep.server.doors import doors, own_words
from fewstep.server.passes import Passes
from fewstep.server.proxy import own_path
from fewstep.server.refusing import answer, refuse

MAX_BODY = 32 * 2**20
OPEN_PATHS = ("/", "/docs", "/favicon.ico", "/healthz", "/readyz")
OPEN_PREFIX = "/web/"  # no secret there
TOKEN_PROTOCOL = "fewstep.token."
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address may hold the token
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), display-capture=(self), microphone=()",
}


@dataclass(frozen=True)
class Access:
    """token     what every client must show; None: whoever reaches the server may use it
    hosts        names under which the server may be addressed; None: any. Keeps other sites from reaching a server
                 without a token by pointing their own name at this machine (DNS rebinding)
    origins      pages from elsewhere that may talk to the server
    passes       what a browser may show in the place of the token, see `Passes`
    """

    token: str | None = None
    hosts: tuple[str, ...] | None = ("localhost", "queue.localhost", "127.0.0.1", "[::1]")
    origins: tuple[str, ...] = ()
    passes: Passes = field(default_factory=lambda: Passes(own_words()))

    @classmethod
    def of(cls, host: str, token: str | None, origins: Iterable[str] = ()) -> Access:
        """What binding to `host` asks for; raises `InvalidRequest` for a public address without a token."""
        if token is not None and len(token) < 8:
            raise InvalidRequest("the token is too short to keep anybody out; give at least 8 characters")
        if token is None and not is_loopback(host):
            raise InvalidRequest(
                f"{host} can be reached from other machines: set --token (or FEWSTEP_TOKEN) to a secret, "
                "which every client then has to show"
            )
        origins = tuple(origins)
        here = (*(cls.hosts or ()), *(_name(urlsplit(each).netloc) for each in origins))
        return cls(token, here if token is None else None, origins)


class Guard:
    """Refuses with 401, 403, 413 (or closes the WebSocket before it opens) what `access` does not allow."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self._open = (OPEN_PREFIX, *(prefix for door in doors() for prefix in door.open_prefixes))
        self._exposed = ", ".join(sorted({"retry-after", *(name for door in doors() for name in door.exposed_headers)}))
        self._parameters = ("token", *(name for door in doors() for name in door.token_parameters))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal, is_http = self._refusal(scope), scope["type"] == "http"
        if is_http:
            send = _with_headers(send, self._for_origin(scope))
        if refusal is not None:
            await refuse(scope, receive, send, *refusal)
        elif is_http and _is_preflight(scope):
            await answer(send, 204, b"", [])
        else:
            await self.app(scope, _bounded(receive) if is_http else receive, send)

    def _for_origin(self, scope: Scope) -> dict[str, str]:
        """The headers without which a browser keeps our answer from a page from elsewhere (CORS)."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or origin not in self.access.origins:
            return {}
        allowed = {
            "access-control-allow-origin": origin,
            "vary": "origin",
            "access-control-expose-headers": self._exposed,
        }
        if _is_preflight(scope):
            allowed["access-control-allow-methods"] = "GET, POST, PUT"
            allowed["access-control-allow-headers"] = headers.get("access-control-request-headers", "")
            allowed["access-control-max-age"] = "600"
        return allowed

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.access.hosts is not None and _name(host) not in self.access.hosts:
            return 403, (
                f"this server does not answer to the name {host[:100]!r}; where a proxy leads that here, name its page "
                "with --origin, or set a --token"
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self.access.origins and urlsplit(origin).netloc != host:
            return 403, f"pages from {origin[:100]!r} may not use this server; allow them with --origin"
        if int(headers.get("content-length", "0") or 0) > MAX_BODY:
            return 413, f"the body is larger than {MAX_BODY // 2**20} MiB"
        if self.access.token is None or self._opens(own_path(scope)) or (origin is not None and _is_preflight(scope)):
            return None
        shown = _tokens(scope, headers, self._parameters)
        if any(hmac.compare_digest(each.encode(), self.access.token.encode()) for each in shown):
            return None
        if any(self.access.passes.opens(each, own_path(scope)) for each in shown):
            return None
        return 401, "a token is needed: as `Authorization: Bearer TOKEN`, or as `?token=TOKEN`"

    def _opens(self, path: str) -> bool:
        return path in OPEN_PATHS or path.startswith(self._open)


def _is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what a page may ask; it never shows a token with that."""
    return scope.get("method") == "OPTIONS" and b"access-control-request-method" in dict(scope["headers"])


def _name(host: str) -> str:
    """A Host header without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.split(":", 1)[0]


def _tokens(scope: Scope, headers: Headers, parameters: Iterable[str]) -> list[str]:
    """Every token that a client shows, in whatever way its protocol has for that."""
    shown = []
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() in ("bearer", "key"):
        shown.append(value.strip())
    elif kind.lower() == "basic":
        with suppress(binascii.Error, UnicodeDecodeError):
            shown.append(base64.b64decode(value, validate=True).decode().partition(":")[2])
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    for name in parameters:
        shown.extend(query.get(name, []))
    for protocol in scope.get("subprotocols", []):
        if protocol.startswith(TOKEN_PROTOCOL):
            shown.append(protocol.removeprefix(TOKEN_PROTOCOL))
    return shown


def _bounded(receive: Receive) -> Receive:
    """The body, cut off where it passes the limit: a length need not be announced."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MAX_BODY else message

    return bounded


def _with_headers(send: Send, more: Mapping[str, str]) -> Send:
    ours = [(name.encode(), value.encode()) for name, value in (HEADERS | dict(more)).items()]

    async def extended(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *ours]
        await send(message)

    return extended
