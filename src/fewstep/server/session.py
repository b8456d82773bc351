"""A live session: a person's parameters and picture, generated anew whenever they change, the newest state first."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from pydantic import ValidationError

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.fields import meant, settings_of
from fewstep.pipelines.plan import Plan
from fewstep.pipelines.prompts import LIVE, understood
from fewstep.pipelines.provenance import RECORD, Record
from fewstep.pipelines.request import Control, Request
from fewstep.server.budget import Budget, Effort
from fewstep.server.coding import Coding, decode, decode_mask, encode
from fewstep.server.engine import Engine, GenerationFailed, Order, Ticket
from fewstep.server.job import Failed, Generated, Pixels, Reason, Stepped
from fewstep.server.likeness import difference, read
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


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """One request of a session: `received` when, at which `version` of its state, and made into what order."""

    id: int
    received: float
    kind: PictureKind
    version: int
    order: Order


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
    image: Image.Image | None = None
    mask: Image.Image | None = None
    controls: dict[str, Image.Image] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    last: Picture | None = None
    local: bool = False  # whether its person sits at this machine

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self.newest: int | None = None  # id of the newest request
        self._owed = False  # whether that one still waits for its picture, or for the news that there is none
        self._received = time.monotonic()
        self._version = 0
        self._thumbnail: Image.Image | None = None
        self._made: LiveRequest | None = None  # the one that became `last`
        self._budget, self._said = Budget(), ""
        self._listeners: set[asyncio.Task[None]] = set()

    @property
    def num_bytes(self) -> int:
        """Of the pictures that it holds."""
        pictures = (self.image, self.mask, *self.controls.values())
        return sum(each.width * each.height * len(each.getbands()) for each in pictures if each)

    def set(self, id_: int, changes: dict[str, Any]) -> None:
        """Change parameters and ask for a picture; raises `InvalidRequest`, and then nothing has changed."""
        try:
            self.parameters = Parameters.model_validate({**self.parameters.model_dump(), **changes})
        except ValidationError as error:
            raise InvalidRequest(in_words(error)) from error
        self._want(id_)

    def forget(self, *, image: bool = False, mask: bool = False, controls: bool = False) -> None:
        """The picture to start from (and then the mask, which means nothing without it), the mask alone, or what
        ControlNets read.
        """
        if controls:
            self.controls = {}
        if image:
            self.image = self._thumbnail = None
        if image or mask:
            self.mask = None

    async def inpaint(self, id_: int, data: bytes) -> None:
        """A mask for the picture to start from."""
        self.mask = await asyncio.to_thread(decode_mask, data)
        self._want(id_)

    async def steer(self, id_: int, which: str | int, data: bytes) -> None:
        """A picture for a ControlNet of the model, by its name or its place; raises `InvalidRequest`."""
        model = self.engine.named(self.parameters.model)
        names = model.steered_by
        if which not in names and not (isinstance(which, int) and which < len(names)):
            loaded = f"loaded are {', '.join(names)}" if names else f"{model.name} has none loaded"
            raise InvalidRequest(f"no ControlNet {str(which)[:60]!r} here; {loaded}")
        name = names[which] if isinstance(which, int) else which
        self.controls[name] = await asyncio.to_thread(decode, data, f"the picture for {name}")
        self._want(id_)

    async def frame(self, id_: int, data: bytes) -> None:
        """A new picture to start from; one that hardly differs is skipped where `skip_similar` says so."""
        image, thumbnail = await asyncio.to_thread(read, data)
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is not None and difference(before, thumbnail) < self.parameters.skip_similar:
            self._thumbnail = before  # the last that was generated: slow changes add up
            self.counts.skipped += 1
            return
        self.image = image
        self._want(id_)

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
            record=dataclasses.asdict(record),
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
            request, advice = self._request(self._effort(id_, model, kind), model)
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

    def _request(self, effort: Effort, model: LatentModel) -> tuple[Request, list[str]]:
        """What is wanted, without what belongs to something that is off (see `Parameters`), and what of its prompts
        cannot be honoured. What a prompt says of an adapter goes before what its slider says.
        """
        wanted = self.parameters
        prompt = understood(wanted.prompt, LIVE, model.loras.names if model.loras else ())
        negative = understood(wanted.settings.negative_prompt, LIVE, negative=True)
        values = settings_of(wanted.settings) | {
            "negative_prompt": negative.text,
            "steps": effort.steps,
            "width": effort.width,
            "height": effort.height,
            "upscale": effort.upscale,
            "timesteps": wanted.timesteps,
            "variation_seed": wanted.variation_seed,
            "image": self.image,
        }
        if wanted.timesteps is not None:  # they say all that these say
            values |= {"steps": None, "strength": None}
        adapters = {**wanted.loras, **prompt.loras} or None
        controls = self._steering(model)
        request = Request.of(
            prompt.text, wanted.seed, mask=self.mask, loras=adapters, controls=controls, **meant(values)
        )
        return request, [*prompt.advice, *negative.advice]

    def _steering(self, model: LatentModel) -> dict[str, Control] | None:
        """The pictures for this model's ControlNets; those for another model's wait until that one samples."""
        scales = self.parameters.control_scales
        known = {name for each in self.engine.models.values() for name in each.steered_by}
        if unknown := sorted(set(scales) - known):
            loaded = f"loaded are {', '.join(sorted(known))}" if known else "this server has none"
            raise InvalidRequest(f"no ControlNet {unknown[0][:60]!r} here; {loaded}")
        steering = {name: self.controls[name] for name in model.steered_by if name in self.controls}
        return {name: Control(image, scales.get(name, 1.0)) for name, image in steering.items()} or None

    def _effort(self, id_: int, model: LatentModel, kind: PictureKind) -> Effort:
        """What was asked for, or as much of it as the budget pays for; says so when that has changed."""
        wanted, (height, width) = self.parameters, model.traits.default_size
        asked = wanted.settings
        steps = wanted.rest_steps if kind is PictureKind.REFINED else asked.steps
        steps = steps or len(wanted.timesteps or ()) or model.profile.steps
        upscale = asked.upscale or 1.0
        refine_steps = (asked.refine_steps or steps) if upscale > 1 else 0
        full = Effort(steps, asked.height or height, asked.width or width, upscale, refine_steps)
        if wanted.budget_ms is None or kind is PictureKind.REFINED:
            return full
        effort = self._budget.afford(full, wanted.budget_ms / 1000, _unit(model))
        saying = "" if effort == full else f"{_lessened(effort, full)}, to stay within {wanted.budget_ms:g} ms"
        if saying and saying != self._said:
            self.say(Advice(id=id_, messages=[saying]))
        self._said = saying
        return effort

    async def _listen(self, request: LiveRequest, ticket: Ticket) -> None:
        """Pass on what becomes of a request; when the hand rests after it, refine it."""
        plan = request.order.plans[0]
        with ticket:
            async for _, event in ticket:
                match event:
                    case Generated():
                        self.counts.generated += 1
                        self._budget.measure(event.worked, _effort_of(plan))
                        self.last = await self._picture(request, event.pixels, request.kind, plan.steps, event)
                        self._made = request
                        self._settle(request.id)
                        self.show(self.last)
                        self.engine.metrics.live.observe(self.last.total_ms / 1000)
                    case Stepped(index=index, preview=pixels) if pixels is not None:
                        self.show(await self._picture(request, pixels, PictureKind.PREVIEW, index + 1))
                    case Failed():
                        self._tell_failure(request.id, event)
                        return
        if request.kind is PictureKind.PICTURE and (self.parameters.rest_steps or 0) > plan.steps:
            await asyncio.sleep(REFINE_AFTER)
            if request.version == self._version:
                await self._start(request.id, time.monotonic(), PictureKind.REFINED)

    async def _picture(
        self, request: LiveRequest, pixels: Pixels, kind: PictureKind, step: int, generated: Generated | None = None
    ) -> Picture:
        plan, coding = request.order.plans[0], Coding(self.parameters.format, self.parameters.quality)
        chunks = request.order.chunks[0] if coding.format == "png" and generated else None
        data = await asyncio.to_thread(encode, pixels, coding, chunks)
        return Picture(
            id=request.id,
            kind=kind,
            step=step,
            num_steps=plan.steps,
            seed=plan.seeds[0],
            waited_ms=1000 * generated.waited if generated else 0.0,
            worked_ms=1000 * generated.worked if generated else 0.0,
            total_ms=1000 * (time.monotonic() - request.received),
            format=coding.format,
            data=data,
        )

    def _tell_failure(self, id_: int, failed: Failed) -> None:
        if failed.reason is Reason.SUPERSEDED:
            self._superseded()
        elif failed.reason is not Reason.CANCELLED:
            self._settle(id_)
            self.say(Trouble(id=id_, reason=failed.reason, message=failed.message))


def _ignore(_: object) -> None:
    return None


def _effort_of(plan: Plan) -> Effort:
    second = 0 if plan.refinement is None else len(plan.refinement.timesteps)
    return Effort(len(plan.timesteps), plan.height, plan.width, plan.upscale or 1.0, second)


def _unit(model: LatentModel) -> int:
    """Pixels along a side that the network halves to the end without a rest: other sizes cost it detours."""
    return model.traits.multiple


def _lessened(effort: Effort, full: Effort) -> str:
    """`1 of 4 steps, 96 x 96 instead of 128 x 128`."""
    parts = [f"{effort.steps} of {full.steps} steps"] if effort.steps < full.steps else []
    if (effort.height, effort.width) != (full.height, full.width):
        parts.append(f"{effort.width} x {effort.height} instead of {full.width} x {full.height}")
    return ", ".join(parts)
