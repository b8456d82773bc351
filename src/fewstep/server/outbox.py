"""What is on its way to one client: messages in order, and of pictures only the newest."""

from __future__ import annotations

import asyncio
from collections import deque

from fewstep.server.protocol import Picture, PictureKind, ToClient

MAX_MESSAGES_WAITING = 256  # of text, for a reader that has stopped reading


class Outbox:
    """A client that reads slowly gets fewer pictures, never older ones, and nobody else waits for it.

    dropped  pictures that gave way to newer ones
    """

    def __init__(self) -> None:
        self.messages: deque[ToClient] = deque()
        self.picture: Picture | None = None
        self.dropped = 0
        self._filled = asyncio.Event()

    def say(self, message: ToClient) -> None:
        if len(self.messages) < MAX_MESSAGES_WAITING:
            self.messages.append(message)
        self._filled.set()

    def show(self, picture: Picture) -> None:
        if self.picture is not None:
            self.dropped += 1
            if picture.kind is PictureKind.PREVIEW and self.picture.kind is not PictureKind.PREVIEW:
                return  # a finished picture is not given up for a preview
        self.picture = picture
        self._filled.set()

    async def take(self) -> ToClient | Picture:
        while True:
            if self.messages:
                return self.messages.popleft()
            if self.picture is not None:
                picture, self.picture = self.picture, None
                return picture
            self._filled.clear()
            await self._filled.wait()
