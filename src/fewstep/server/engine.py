"""The engine as the doors see it: requests in, events out, on the event loop; the network has its own thread."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from fewstep.errors import FewstepError, InvalidRequest
from fewstep.imaging.masks import mask_fitted
from fewstep.imaging.pixels import fitted
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.plan import Plan, complete
from fewstep.pipelines.provenance import describe
from fewstep.pipelines.request import Control, Request
from fewstep.server.job import Deadline, Event, Failed, Generated, Job, Pixels, Reason, Stepped
from fewstep.server.metrics import Metrics
from fewstep.server.scheduler import Lane, Scheduler
from fewstep.server.worker import Worker

MAX_PIXELS = 2_048 * 2_048  # of one picture, where nobody says otherwise
GRACE = 1.5  # seconds that what is in the making has at the end

Checker = Callable[[Image.Image], bool]


class UnknownModel(InvalidRequest):
    """A request names a model that this server does not have; HTTP's 404."""

    status = 404


class GenerationFailed(FewstepError):
    """A picture did not come about; `reason` says of what kind the trouble was."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.reason = failed.reason


@dataclass(frozen=True, eq=False)
class Order:
    """A request made ready for `model`: a plan for each picture, and the text chunks that tell how it was made."""

    model: LatentModel
    plans: tuple[Plan, ...]
    chunks: tuple[dict[str, str], ...]
    advice: tuple[str, ...]

    @classmethod
    def of(cls, model: LatentModel, request: Request) -> Order:
        """Raises `InvalidRequest` for what the model cannot do. Slow with a picture to start from: not for the loop."""
        plan = complete(request, model, batch_size=1)
        chunks = tuple(describe(model, plan, index) for index in range(len(plan.seeds)))
        if plan.image is not None:  # scaled here, so that the thread of the network need not
            plan = dataclasses.replace(plan, image=fitted(plan.image, plan.height, plan.width))
        if plan.mask is not None:
            plan = dataclasses.replace(plan, mask=mask_fitted(plan.mask, plan.height, plan.width))
        return cls(model, tuple(plan.batches()), chunks, plan.advice)


class Engine:
    """One thread that samples with one model, or with the others that a request may name, for any number of clients.

    max_batch    pictures in the making at once
    max_clients  lanes at once; max_waiting pictures may wait in each
    checker      is shown every picture before it leaves, previews too, in a thread of its own; False withholds it
    max_pixels   of one picture; default: 64 times as many as the model was trained on, at most `MAX_PIXELS`
    deadline     seconds after which a picture is not wanted any more, unless the request says otherwise
    controls     what steers the pictures of the first model where a request says nothing of controls
    """

    def __init__(
        self,
        model: LatentModel,
        *others: LatentModel,
        max_batch: int = 16,
        max_clients: int = 256,
        max_waiting: int = 64,
        max_pixels: int | None = None,
        deadline: float = 60.0,
        checker: Checker | None = None,
        controls: Mapping[str, Control] | None = None,
    ) -> None:
        self._controls = controls or None
        self.model, self.deadline, self._checker = model, deadline, checker
        self.models = {each.name: each for each in (model, *others)}
        if len(self.models) <= len(others):
            raise InvalidRequest(f"two of the models have the same name: {', '.join(m.name for m in (model, *others))}")
        self.max_pixels = max_pixels or min(64 * math.prod(model.traits.default_size), MAX_PIXELS)
        self.scheduler = Scheduler(max_lanes=max_clients, max_waiting=max_waiting, max_active=max(1, max_batch // 4))
        self.metrics = Metrics(self.scheduler)
        self.worker = Worker(self.models.values(), self.scheduler, max_batch=max_batch, on_batch=self.metrics.on_batch)
        self.metrics.prompts.set_function(lambda: self.worker.prompt_bytes)
        self._shared: dict[str, tuple[Lane, int]] = {}
        self._stopped: asyncio.Future[None] | None = None

    def start(self) -> None:
        for model in self.models.values():
            _ = model.origin.hash  # reads all weights once: now, not at the first picture
        self.worker.start()

    async def stop(self, grace: float = GRACE) -> None:
        """Finish what is in the making, for at most `grace` seconds, then fail what is left with the reason `shutdown`.
        Whoever calls it again waits for the same end.
        """
        if self._stopped is None:
            self._stopped = asyncio.ensure_future(asyncio.to_thread(self.worker.stop, grace))
        await asyncio.shield(self._stopped)

    @contextmanager
    def lane(self, client: str | None = None) -> Iterator[Lane]:
        """A place in the line. Requests under one client's name share it; None is alone and generates one picture at a
        time, as a live session wants. Raises `Busy`.
        """
        if client is None:
            lane = self.scheduler.open(max_active=1)
        else:
            lane, users = self._shared.get(client) or (self.scheduler.open(), 0)
            self._shared[client] = (lane, users + 1)
        try:
            yield lane
        finally:
            if client is None or self._leave(client) == 0:
                self.scheduler.close(lane)

    def _leave(self, client: str) -> int:
        lane, users = self._shared.pop(client)
        if users > 1:
            self._shared[client] = (lane, users - 1)
        return users - 1

    def named(self, name: str | None) -> LatentModel:
        """The model of that name, the first for None; raises `UnknownModel`."""
        if name is None:
            return self.model
        if name not in self.models:
            raise UnknownModel(f"there is no model {name[:60]!r} here; this server has {', '.join(self.models)}")
        return self.models[name]

    async def order(self, request: Request, model: LatentModel | None = None) -> Order:
        """Check a request and make it ready, for the first model unless another is given; raises `InvalidRequest`."""
        model = model or self.model
        if model is self.model and request.controls is None:
            request = dataclasses.replace(request, controls=self._controls)
        height, width = model.traits.default_size
        larger = request.upscale or 1.0
        height, width = (round(side * larger) for side in (request.height or height, request.width or width))
        if height * width > self.max_pixels:
            limit = f"at most {self.max_pixels} pixels"
            raise InvalidRequest(f"{width} x {height} is more than this server generates with {model.name}: {limit}")
        if request.image is None and not request.controls:
            return Order.of(model, request)
        return await asyncio.to_thread(Order.of, model, request)

    def submit(
        self,
        lane: Lane,
        order: Order,
        *,
        previews: bool = False,
        latest_wins: bool = False,
        deadline: float | None = None,
        start_within: float | None = None,
    ) -> Ticket:
        """Queue an order; with `latest_wins` in the place of all that wait in the lane. It fails unless it is finished
        within `deadline` seconds; with `start_within` instead, unless its first picture has been started by then.

        Raises `Busy`, and `GenerationFailed` when the server is shutting down.
        """
        if self.worker.stopping:
            raise GenerationFailed(Failed(Reason.SHUTDOWN, "the server is shutting down"))
        if start_within is None:
            until = Deadline(time.monotonic() + (self.deadline if deadline is None else deadline))
        else:
            until = Deadline(time.monotonic() + start_within, to_start=True)
        ticket = Ticket(self, lane, order, until, previews)
        self.scheduler.submit(lane, ticket.jobs, latest_wins=latest_wins)
        return ticket

    async def checked(self, event: Event) -> Event:
        """The event as it may be shown: without a picture that the content checker withholds."""
        if self._checker is None:
            return event
        pixels = event.pixels if isinstance(event, Generated) else event.preview if isinstance(event, Stepped) else None
        if pixels is None or await asyncio.to_thread(self._checker, Image.fromarray(pixels)):
            return event
        if isinstance(event, Stepped):
            return dataclasses.replace(event, preview=None)
        return Failed(Reason.WITHHELD, "the picture was withheld by this server's content checker")

    async def pictures(self, lane: Lane, order: Order) -> list[Pixels]:
        """All pictures of an order; raises `Busy`, and `GenerationFailed` for the first that fails."""
        with self.submit(lane, order) as ticket:
            return await ticket.pictures()


class Ticket:
    """An order on its way. Iterate it for (number of the picture, event) until each picture has had its last event;
    leave its `with` block to cancel what is left.
    """

    def __init__(self, engine: Engine, lane: Lane, order: Order, deadline: Deadline, previews: bool) -> None:
        self._engine, self._lane = engine, lane
        self._loop, self._events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        self.jobs = [self._job(index, order.model, plan, deadline, previews) for index, plan in enumerate(order.plans)]
        self._left = len(self.jobs)

    def _job(self, index: int, model: LatentModel, plan: Plan, deadline: Deadline, previews: bool) -> Job:
        def sink(event: Event) -> None:
            self._engine.metrics.on_event(event)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return Job(model, plan, sink, deadline, previews)

    @property
    def position(self) -> int:
        """How many pictures, at most, start before the first of these."""
        return self._engine.scheduler.position(self.jobs[0])

    def cancel(self) -> None:
        """What is left fails with the reason `cancelled`."""
        self._engine.scheduler.cancel(self._lane, self.jobs)

    async def pictures(self) -> list[Pixels]:
        """All of them, in their order; raises `GenerationFailed` for the first that fails."""
        done: dict[int, Pixels] = {}
        async for index, event in self:
            if isinstance(event, Failed):
                raise GenerationFailed(event)
            if isinstance(event, Generated):
                done[index] = event.pixels
        return [done[index] for index in range(len(self.jobs))]

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> tuple[int, Event]:
        if not self._left:
            raise StopAsyncIteration
        index, event = await self._events.get()
        self._left -= isinstance(event, Generated | Failed)
        return index, await self._engine.checked(event)
