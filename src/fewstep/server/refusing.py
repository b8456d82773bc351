"""Answers of the guards around the app, in the form of everybody's clients (see `app.failure`)."""

from __future__ import annotations

import json

from starlette.types import Receive, Scope, Send

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    413: "invalid_request_error",
    503: "server_error",
}


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, message: str) -> None:
    """An HTTP error, or a WebSocket that is closed before it opens."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": message[:120]})
        return
    error = {"message": message, "type": KINDS[status], "param": None, "code": status}
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await answer(send, status, json.dumps({"detail": message, "error": error}).encode(), headers)


async def answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())] if body else headers
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
