"""A client of the live protocol, the least that one has to do."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from fewstep.server import protocol
from fewstep.server.protocol import Picture, PictureKind
from serving import Server


def picture_file(colour: str) -> bytes:
    Image.new("RGB", (64, 64), colour).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


class Client:
    """The least that a client has to do."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.hello = self.message("hello")

    def set(self, id_: int, **parameters: Any) -> None:
        self.socket.send(json.dumps({"type": "set", "id": id_, "parameters": {"format": "png", **parameters}}))

    def next(self, timeout: float = 30) -> Picture | dict[str, Any]:
        received = self.socket.recv(timeout=timeout)
        return json.loads(received) if isinstance(received, str) else Picture.from_binary(received)

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if wanted(thing := self.next()):
                return thing
        raise AssertionError("it never came")

    def picture(self, id_: int, kind: PictureKind = PictureKind.PICTURE) -> Picture:
        return self.until(lambda it: isinstance(it, Picture) and (it.id, it.kind) == (id_, kind))

    def message(self, type_: str) -> dict[str, Any]:
        return self.until(lambda it: isinstance(it, dict) and it["type"] == type_)


@contextmanager
def talking(server: Server, query: str = "", **options: Any) -> Iterator[Client]:
    with connect(server.live + query, subprotocols=[protocol.JSON], **options) as socket:
        yield Client(socket)


def image_of(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.data))


def close(a: Image.Image, b: Image.Image) -> bool:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()) <= 1
