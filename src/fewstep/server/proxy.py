"""Behind a reverse proxy: under which path, name and scheme the server is seen from outside, and who asks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fewstep.errors import InvalidRequest
from fewstep.server.doors import own_words
from fewstep.server.refusing import answer, refuse

PREFIX, HOST = "x-forwarded-prefix", "x-forwarded-host"
HERE = ("127.0.0.1", "::1")  # a proxy on this machine says for whom it speaks, and by http or https; no more
PAGES = frozenset(("docs", "openapi.json", "healthz", "readyz", "metrics", "favicon.ico"))
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Proxy:
    """root_path  under which path the server is seen from outside, "/lcm" for example; "" for none
    trusted    proxies that may say in X-Forwarded-Prefix and -Host where the server is seen, for each request
    """

    root_path: str = ""
    trusted: tuple[Network, ...] = ()

    @classmethod
    def of(cls, root_path: str | None, trusted: Iterable[str] = ()) -> Proxy:
        """`trusted`: addresses, or networks as 10.0.0.0/8. Raises `InvalidRequest`."""
        return cls(checked_path(root_path or "", "the root path"), tuple(_network(each) for each in trusted))

    def trusts(self, address: str) -> bool:
        try:
            return any(ipaddress.ip_address(address) in network for network in self.trusted)
        except ValueError:  # a socket without an address
            return False


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InvalidRequest(
            f"the proxy {text[:60]!r} is no address: give its IP address, or a network as 10.0.0.0/8"
        ) from error


def checked_path(text: str, what: str) -> str:
    """A path under which a server is seen, without the slash at its end; raises `InvalidRequest`."""
    path = text.strip().rstrip("/")
    if path and not _PATH.fullmatch(path):
        raise InvalidRequest(f"{what} is {text[:60]!r}; it must be a path of plain words, /lcm for example")
    if (word := path.split("/")[1] if path else "") in own_words() | PAGES:
        raise InvalidRequest(f"{what} is {text[:60]!r}; {word!r} is a word of the server's own paths: choose another")
    return path


class Proxied:
    """ASGI middleware, the outermost: tells the app the client, host, scheme and path that the proxy was asked by.

    The path comes with the proxy's own part or without it, as the proxy leaves it. Inside it has it, as ASGI wants:
    `root_path` holds that part, and `path` begins with it.
    """

    def __init__(self, app: ASGIApp, proxy: Proxy) -> None:
        trusted = [*HERE, *map(str, proxy.trusted)]
        self._app: ASGIApp = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type, assignment]
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                scope = self._seen(scope)
            except InvalidRequest as error:
                await refuse(scope, receive, send, 400, str(error))
                return
            if scope["type"] == "http" and scope["path"] == scope["root_path"] != "":
                query = scope["query_string"].decode("latin-1")
                place = scope["path"] + "/" + (f"?{query}" if query else "")
                await answer(send, 307, b"", [(b"location", place.encode("latin-1"))])
                return
        await self._app(scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        """The request as it was asked from outside; raises `InvalidRequest` for a path that is none."""
        prefix, headers = self._proxy.root_path, Headers(scope=scope)
        if self._proxy.trusts((scope.get("client") or ("",))[0]):
            if given := headers.getlist(PREFIX):  # each proxy on the way adds its own, the outermost first
                parts = (part.strip().strip("/") for value in given for part in value.split(","))
                prefix = checked_path("".join(f"/{part}" for part in parts if part), PREFIX)
            if host := headers.get(HOST, "").partition(",")[0].strip():
                others = [(name, value) for name, value in scope["headers"] if name != b"host"]
                scope = {**scope, "headers": [(b"host", host.encode("latin-1")), *others]}
        raw = scope.get("raw_path") or b""
        return {
            **scope,
            "root_path": prefix,
            "path": prefix + _without(prefix, scope["path"]),
            "raw_path": prefix.encode() + _without(prefix, raw.decode("latin-1")).encode("latin-1"),
        }


def _without(prefix: str, path: str) -> str:
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path


def own_path(scope: Scope) -> str:
    """The path of a request without the part that is the proxy's."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
