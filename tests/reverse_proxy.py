"""A reverse proxy on a real port, in a thread: it shows a server under a path, and may cut that path off."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

LINE = b"\r\n"


@contextmanager
def proxied(
    backend: str, prefix: str, headers: Mapping[str, str] | None = None, *, strips: bool = True
) -> Iterator[str]:
    """host:port of a proxy before `backend` (host:port too), which leads what begins with `prefix` there.

    headers  what it says to the backend, in the place of what the client says under the same names; "{here}" stands
             for its own host:port
    strips   whether it cuts the prefix off the path
    """
    said = dict(headers or {})

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while LINE + LINE not in head and (more := self.request.recv(65536)):
                head += more
            head, _, body = head.partition(LINE + LINE)
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, version = first.split(" ", 2)
            path, question, query = path.partition("?")
            if path != prefix and not path.startswith(prefix + "/"):
                self.request.sendall(b"HTTP/1.1 418 Not Mine\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            path = (path.removeprefix(prefix) or "/" if strips else path) + question + query
            own = {name.lower() for name in said}
            kept = [line for line in lines if line.partition(":")[0].lower() not in own]
            if "upgrade:" not in head.decode("latin-1").lower():  # one request a connection
                kept = [*(line for line in kept if not line.lower().startswith("connection:")), "connection: close"]
            here = "{}:{}".format(*self.server.server_address)
            kept += [f"{name}: {value.format(here=here)}" for name, value in said.items()]
            host, port = backend.split(":")
            with socket.create_connection((host, int(port))) as there:
                there.sendall("\r\n".join((f"{method} {path} {version}", *kept, "", "")).encode("latin-1") + body)
                back = threading.Thread(target=_pour, args=(there, self.request))
                back.start()
                _pour(self.request, there)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = block_on_close = False
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
