"""A live session: a person's parameters and picture, generated anew whenever they change, the newest state first."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue, ValidationError

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.provenance import RECORD, Record
from fewstep.server.budget import Budget, Effort
from fewstep.server.coding import Coding
from fewstep.server.engine import Engine, GenerationFailed, Ticket
from fewstep.server.job import Failed, Generated, Reason, Stepped
from fewstep.server.live_request import LiveRequest, controlnet, effort_of, full_effort, request_of
from fewstep.server.pictures import Pictures
from fewstep.server.protocol import (
    Advice,
    Describe,
    Description,
    Parameters,
    Picture,
    PictureKind,
    Queued,
    Stats,
    ToClient,
    Trouble,
)
from fewstep.server.retelling import retell
from fewstep.server.scheduler import Busy, Lane
from fewstep.server.wording import in_words

REFINE_AFTER = 0.3  # seconds of rest before a picture is generated again in more steps


@dataclass
class Counts:
    generated: int = 0
    superseded: int = 0
    skipped: int = 0


@dataclass(eq=False)
class Session:
    """State and requests of one live client, apart from any connection: a lost one may come back to it.

    say, show  where messages and pictures go; they must not block
    """

    engine: Engine
    lane: Lane
    say: Callable[[ToClient], None] = lambda message: None
    show: Callable[[Picture], None] = lambda picture: None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    parameters: Parameters = field(default_factory=Parameters)
    pictures: Pictures = field(default_factory=Pictures)
    counts: Counts = field(default_factory=Counts)
    last: Picture | None = None
    local: bool = False  # whether its person sits at this machine

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self.newest: int | None = None  # id of the newest request
        self._owed = False  # whether that one still waits for its picture, or for the news that there is none
        self._received = time.monotonic()
        self._version = 0
        self._made: LiveRequest | None = None  # the one that became `last`
        self._budget, self._advice = Budget(), ""
        self._listeners: set[asyncio.Task[None]] = set()

    def set(self, id_: int, changes: Mapping[str, JsonValue]) -> None:
        """Change parameters and ask for a picture; raises `InvalidRequest`, and then nothing has changed."""
        try:
            self.parameters = Parameters.model_validate({**self.parameters.model_dump(), **changes})
        except ValidationError as error:
            raise InvalidRequest(in_words(error)) from error
        self._want(id_)

    async def inpaint(self, id_: int, data: bytes) -> None:
        """A mask for the picture to start from."""
        await self.pictures.inpaint(data)
        self._want(id_)

    async def steer(self, id_: int, which: str | int, data: bytes) -> None:
        """A picture for a ControlNet of the model, by its name or its place; raises `InvalidRequest`."""
        await self.pictures.steer(controlnet(self.engine.named(self.parameters.model), which), data)
        self._want(id_)

    async def frame(self, id_: int, data: bytes) -> None:
        """A new picture to start from; one that hardly differs is skipped where `skip_similar` says so."""
        if await self.pictures.start_from(data, self.parameters.skip_similar):
            self._want(id_)
        else:
            self.counts.skipped += 1

    @property
    def _coding(self) -> Coding:
        return Coding(self.parameters.format, self.parameters.quality)

    def describe(self, question: Describe) -> Description:
        """How the newest picture was made; raises `InvalidRequest` where there is none."""
        if self._made is None:
            raise InvalidRequest("there is no picture yet that could be described")
        request, model = self._made, self._made.order.model
        record = Record.from_json(request.order.chunks[0][RECORD])
        retold = retell(model, record, image=question.image, mask=question.mask, local=self.local)
        return Description(
            id=question.id,
            picture=request.id,
            record=record,
            command=retold.command,
            python=retold.python,
            notes=list(retold.notes),
            prompt=retold.prompt,
            negative_prompt=retold.negative_prompt,
        )

    def cancel(self) -> None:
        """Nothing that was asked for so far is wanted any more."""
        self._owed = False
        self._stop()

    def pause(self) -> None:
        """Nobody is there: stop, and say nothing."""
        self.say = self.show = _ignore
        self._stop()

    def go_on(self) -> None:
        """Somebody is there again: show the last picture, and generate what was not finished."""
        if self.last is not None:
            self.show(self.last)
        if self._owed and self.newest is not None:
            self._want(self.newest)

    def _stop(self) -> None:
        self._version += 1
        self._changed.clear()
        self.engine.scheduler.cancel(self.lane)

    def _want(self, id_: int) -> None:
        if self._changed.is_set():
            self._superseded()
        self.newest, self._received, self._owed = id_, time.monotonic(), True
        self._version += 1
        self._changed.set()

    def _superseded(self) -> None:
        self.counts.superseded += 1
        self.engine.metrics.superseded.inc()

    def stats(self, dropped: int) -> Stats:
        """How it goes; `dropped` pictures were generated but gave way to newer ones on the wire."""
        counts, scheduler = self.counts, self.engine.scheduler
        return Stats(
            painted=counts.generated,
            superseded=counts.superseded,
            skipped=counts.skipped,
            dropped=dropped,
            waiting=scheduler.num_waiting,
            sessions=scheduler.num_lanes,
        )

    async def run(self) -> None:
        """Generate whatever is newest, until cancelled."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                assert self.newest is not None
                await self._start(self.newest, self._received, PictureKind.PICTURE)
        finally:
            for listener in self._listeners:
                listener.cancel()
            await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _start(self, id_: int, received: float, kind: PictureKind) -> None:
        """Hand the present state to the engine; what comes of it is listened to in a task."""
        try:
            model = self.engine.named(self.parameters.model)
            effort = self._effort(id_, model, kind)
            request, advice = request_of(self.parameters, self.pictures, effort, model, self.engine.models.values())
            order = await self.engine.order(request, model)
        except FewstepError as error:
            self._refuse(id_, "invalid", error)
            return
        if advice := [*advice, *order.advice]:
            self.say(Advice(id=id_, messages=advice))
        try:
            ticket = self.engine.submit(
                self.lane,
                order,
                previews=self.parameters.previews and kind is PictureKind.PICTURE,
                latest_wins=True,
            )
        except Busy as error:
            self._refuse(id_, "busy", error, error.retry_after)
            return
        except GenerationFailed as error:
            self._refuse(id_, error.reason, error)
            return
        if (position := ticket.position) > 1:
            self.say(Queued(id=id_, position=position))
        listener = asyncio.create_task(self._listen(LiveRequest(id_, received, kind, self._version, order), ticket))
        self._listeners.add(listener)
        listener.add_done_callback(self._listeners.discard)

    def _refuse(self, id_: int, reason: str, error: FewstepError, retry_after: float | None = None) -> None:
        self._settle(id_)
        self.say(Trouble(id=id_, reason=reason, message=str(error), retry_after=retry_after))

    def _settle(self, id_: int) -> None:
        if id_ == self.newest:
            self._owed = False

    def _effort(self, id_: int, model: LatentModel, kind: PictureKind) -> Effort:
        """What was asked for, or as much of it as the budget pays for; says so when that has changed."""
        parameters = self.parameters
        if kind is PictureKind.REFINED:
            return full_effort(parameters, model, parameters.rest_steps)
        full = full_effort(parameters, model)
        if parameters.budget_ms is None:
            return full
        # sides in whole units that the network halves to the end without a rest: other sizes cost it detours
        effort = self._budget.afford(full, parameters.budget_ms / 1000, model.traits.multiple)
        advice = "" if effort == full else f"{effort.less_than(full)}, to stay within {parameters.budget_ms:g} ms"
        if advice and advice != self._advice:
            self.say(Advice(id=id_, messages=[advice]))
        self._advice = advice
        return effort

    async def _listen(self, request: LiveRequest, ticket: Ticket) -> None:
        """Pass on what becomes of a request; when the hand rests after it, refine it."""
        plan = request.order.plans[0]
        with ticket:
            async for _, event in ticket:
                match event:
                    case Generated():
                        self.counts.generated += 1
                        self._budget.measure(event.worked, effort_of(plan))
                        self.last = await request.picture(event.pixels, self._coding, plan.steps, event)
                        self._made = request
                        self._settle(request.id)
                        self.show(self.last)
                        self.engine.metrics.live.observe(self.last.total_ms / 1000)
                    case Stepped(index=index, preview=pixels) if pixels is not None:
                        self.show(await request.picture(pixels, self._coding, index + 1))
                    case Failed():
                        self._tell_failure(request.id, event)
                        return
        if request.kind is PictureKind.PICTURE and (self.parameters.rest_steps or 0) > plan.steps:
            await asyncio.sleep(REFINE_AFTER)
            if request.version == self._version:
                await self._start(request.id, time.monotonic(), PictureKind.REFINED)

    def _tell_failure(self, id_: int, failed: Failed) -> None:
        if failed.reason is Reason.SUPERSEDED:
            self._superseded()
        elif failed.reason is not Reason.CANCELLED:
            self._settle(id_)
            self.say(Trouble(id=id_, reason=failed.reason, message=failed.message))


def _ignore(_: object) -> None:
    return None
