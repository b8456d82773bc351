"""The one thread that owns the networks: it takes jobs in, answers what they ask, batch by batch, and never dies."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import torch
from PIL import Image

from fewstep.errors import FewstepError
from fewstep.imaging.pixels import to_bytes
from fewstep.models.latent_model import LatentModel
from fewstep.models.memory import out_of_memory
from fewstep.pipelines.plan import Plan
from fewstep.pipelines.sample import decoded, sample
from fewstep.server.asks import Answer, Ask, answer
from fewstep.server.batching import SharedModel, Suspendable
from fewstep.server.job import Failed, Generated, Job, Pixels, Reason, Stepped
from fewstep.server.scheduler import Scheduler

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.25


class Worker:
    """Rows enter and leave between the steps: no job waits for the end of another.

    max_batch  jobs in the making at once, and so the largest batch
    on_batch   is called with (call, rows, seconds) of every call of the network
    """

    def __init__(
        self,
        models: Iterable[LatentModel],
        scheduler: Scheduler,
        *,
        max_batch: int = 16,
        on_batch: Callable[[str, int, float], None] = lambda call, rows, seconds: None,
    ) -> None:
        self._shared = {model: SharedModel(model) for model in models}
        self._scheduler = scheduler
        self.max_batch, self._on_batch = max_batch, on_batch
        self._running: dict[Job, Suspendable] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fewstep-network", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether nothing new is taken in any more."""
        return self._stopping.is_set()

    @property
    def prompt_bytes(self) -> int:
        """Held by the encoded prompts of all models."""
        return sum(shared.prompts.size for shared in self._shared.values())

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Finish what is in the making, for at most `grace` seconds, then fail the rest."""
        self._stopping.set()
        self._scheduler.wake()
        self._thread.join(grace)
        self._scheduler.drain()

    def _run(self) -> None:
        with torch.inference_mode():
            while not self._stopping.is_set() or self._running:
                try:
                    self._turn()
                except Exception:
                    log.exception("a turn of the network thread failed; its jobs are given up")
                    for job in list(self._running):
                        self._end(job, Failed(Reason.ERROR, "the server made a mistake"))

    def _turn(self) -> None:
        """Take in, drop, answer one batch."""
        now = time.monotonic()
        self._scheduler.expire(now)
        if not self._stopping.is_set():
            for job in self._scheduler.take(self.max_batch - len(self._running)):
                self._begin(job)
        for job in [job for job in self._running if job.over or job.deadline.at <= now]:
            self._end(job, Failed(Reason.DEADLINE, "its deadline passed before it was finished"))
        if self._running:
            self._answer(self._next_batch())
        else:
            self._scheduler.wait(IDLE_SECONDS)

    def _next_batch(self) -> list[tuple[Job, Ask[Answer]]]:
        """The asks that can be answered together with the most urgent one; of two equally urgent, the older job's."""
        asks = [(job, running.ask) for job, running in self._running.items() if running.ask is not None]
        first = min((ask for _, ask in asks), key=lambda ask: ask.call)
        return [(job, ask) for job, ask in asks if ask.goes_with(first)]

    def _answer(self, batch: list[tuple[Job, Ask[Answer]]]) -> None:
        started = time.perf_counter()
        results = answer([ask for _, ask in batch])
        seconds = time.perf_counter() - started
        self._on_batch(batch[0][1].call.name.lower(), sum(ask.rows for _, ask in batch), seconds)
        for (job, _), result in zip(batch, results, strict=True):
            running = self._running[job]
            if isinstance(result, Exception):
                self._go_on(job, partial(running.fail, result))
            else:
                self._go_on(job, partial(running.resume, result))

    def _begin(self, job: Job) -> None:
        job.begin()
        self._running[job] = running = Suspendable(lambda: self._generate(job))
        self._go_on(job, running.start)

    def _go_on(self, job: Job, move: Callable[[], None]) -> None:
        try:
            move()
        except Exception as error:
            if not isinstance(error, FewstepError) and not out_of_memory(error):
                log.exception("a picture failed")
            self._end(job, Failed(Reason.ERROR, _message(error)))
        else:
            if self._running[job].ask is None:
                self._end(job, Failed(Reason.ERROR, "the sampling ended without a picture"))

    def _end(self, job: Job, event: Failed) -> None:
        """The job leaves; `event` is heard only where nothing final was said before."""
        self._running.pop(job).abandon()
        self._scheduler.finished(job)
        job.tell(event)

    def _generate(self, job: Job) -> None:
        """What happens to one job, seen from inside: the very pipeline that `text2image` runs."""
        pixels = self._round(job, job.plan, 0)
        if job.plan.refinement is not None:
            second = dataclasses.replace(job.plan.refinement, image=Image.fromarray(pixels))
            pixels = self._round(job, second, len(job.plan.timesteps))
        assert job.started is not None
        job.tell(Generated(pixels, job.started - job.submitted, time.monotonic() - job.started))

    def _round(self, job: Job, plan: Plan, done: int) -> Pixels:
        """A plan carried out, after `done` steps of the job."""
        model, total = self._shared[job.model], job.plan.num_steps
        for step in sample(model, plan):
            if done + step.index + 1 < total:
                preview = to_bytes(decoded(model, plan, step.x0))[0] if job.previews else None
                job.tell(Stepped(done + step.index, total, preview))
        return to_bytes(decoded(model, plan, step.x_t))[0]


def _message(error: Exception) -> str:
    if out_of_memory(error):
        return "the picture does not fit into the memory of the device; ask for a smaller one"
    return str(error) if isinstance(error, FewstepError) else "the server made a mistake"
