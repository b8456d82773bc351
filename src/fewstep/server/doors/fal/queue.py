"""fal's queue, as their clients' `submit` and `subscribe` speak it: hand in, ask how it goes, fetch, cancel.

The line is the engine's own: what was handed in waits in its client's lane like everything else. Answers are kept for
ten minutes, the newest of them where they are large; nothing else is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from fewstep.errors import InvalidRequest
from fewstep.server.doors.fal.accepted import Accepted
from fewstep.server.doors.fal.answers import Answer, Status
from fewstep.server.engine import Engine, GenerationFailed, Ticket
from fewstep.server.job import Failed, Reason

log = logging.getLogger(__name__)

KEPT_SECONDS = 600.0
KEPT_REQUESTS = 1024
KEPT_BYTES = 128 * 2**20
START_WITHIN = 600.0  # seconds that a request may wait for its start, unless it wants less: who queues has time
POLL = 0.1  # seconds between two looks at a request whose status is streamed


class UnknownRequest(InvalidRequest):
    """404: no such request, or its answer is not kept any more."""

    status = 404


@dataclass(eq=False)
class Queued:
    """A request that was handed in, under the application `app`, and the answer that it gets.

    ticket  until it is done: its jobs hold the pictures that they start from
    """

    app: str
    ticket: Ticket | None
    task: asyncio.Task[Answer | Failed]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    done_at: float | None = None

    @property
    def answer(self) -> Answer:
        """Of a request that is done; raises `GenerationFailed` where there is none."""
        outcome = self.task.result()
        if isinstance(outcome, Failed):
            raise GenerationFailed(outcome)
        return outcome

    @property
    def num_bytes(self) -> int:
        """Of the answer, where there is one."""
        ended = self.task.done() and not self.task.cancelled()  # as it is where the server ends
        outcome = self.task.result() if ended else None
        return sum(len(image["content"]) for image in outcome["images"]) if isinstance(outcome, dict) else 0

    @property
    def position(self) -> int:
        """How many pictures, at most, start before its first."""
        return self.ticket.position if self.ticket else 0

    def cancel(self) -> None:
        if self.ticket is not None:
            self.ticket.cancel()

    @property
    def status(self) -> Status:
        """In fal's words; what failed is completed, with an error."""
        if not self.task.done():
            started = self.ticket is not None and any(job.started is not None for job in self.ticket.jobs)
            if started:
                return {"status": "IN_PROGRESS", "logs": []}
            return {"status": "IN_QUEUE", "queue_position": self.position, "logs": []}
        outcome = self.task.result()
        if isinstance(outcome, Failed):
            return {"status": "COMPLETED", "logs": [], "error": outcome.message, "error_type": outcome.reason}
        return {"status": "COMPLETED", "logs": [], "metrics": {"inference_time": outcome["timings"]["inference"]}}


class Queue:
    """Requests by their id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._requests: OrderedDict[str, Queued] = OrderedDict()

    async def submit(self, client: str, app: str, accepted: Accepted, start_within: float) -> Queued:
        """Raises `Busy`."""
        with ExitStack() as held:
            lane = held.enter_context(self._engine.lane(client))
            ticket = held.enter_context(self._engine.submit(lane, accepted.order, start_within=start_within))
            task = asyncio.create_task(_generate(accepted, ticket, held.pop_all()))
        request = Queued(app, ticket, task)
        self._requests[request.id] = request
        task.add_done_callback(lambda _: self._ended(request))
        return request

    def find(self, app: str, id_: str) -> Queued:
        """Raises `UnknownRequest`."""
        self._forget()
        request = self._requests.get(id_)
        if request is None or request.app != app:
            raise UnknownRequest(f"{app} has no request {id_[:60]!r} (any more)")
        return request

    async def statuses(self, request: Queued) -> AsyncIterator[str]:
        """Every change of the status as a server-sent event, the last when it is completed."""
        last = None
        while True:
            status = request.status
            if status != last:
                yield f"data: {json.dumps(status)}\n\n"
            if status["status"] == "COMPLETED":
                return
            last = status
            await asyncio.wait((request.task,), timeout=POLL)

    def _ended(self, request: Queued) -> None:
        request.done_at, request.ticket = time.monotonic(), None
        self._forget()
        asyncio.get_running_loop().call_later(KEPT_SECONDS + 0.1, self._forget)

    def _forget(self) -> None:
        """Drop what was done long ago, and the oldest answers where there are too many or too large ones."""
        done = [request for request in self._requests.values() if request.done_at is not None]
        done.sort(key=lambda request: request.done_at or 0.0, reverse=True)
        room = KEPT_BYTES
        for place, request in enumerate(done):
            room -= request.num_bytes
            too_many = place >= KEPT_REQUESTS or (room < 0 and place > 0)
            if too_many or time.monotonic() - (request.done_at or 0.0) > KEPT_SECONDS:
                del self._requests[request.id]


async def _generate(accepted: Accepted, ticket: Ticket, held: ExitStack) -> Answer | Failed:
    """What comes of a request. Never an exception: its traceback would keep everything that was in the making."""
    started = time.perf_counter()
    try:
        with held:
            pictures = await ticket.pictures()
        return await accepted.answer(pictures, time.perf_counter() - started)
    except GenerationFailed as error:
        return Failed(error.reason, str(error))
    except Exception:
        log.exception("a queued request failed")
        return Failed(Reason.ERROR, "the server made a mistake")


def patience(header: str | None) -> float:
    """How many seconds a request waits for its start, by `x-fal-request-timeout`; raises `InvalidRequest`."""
    if header is None:
        return START_WITHIN
    try:
        seconds = float(header)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidRequest(f"x-fal-request-timeout is {header[:40]!r}; it must be a number of seconds")
    return min(seconds, START_WITHIN)
