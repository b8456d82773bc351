"""Who is next: a lane for each client, the least served first, every queue bounded.

Start-time fair queueing: a lane's clock runs by the work that it was given, the lane whose clock is furthest behind
goes next, and a lane that comes back from idling starts at the present, so that nobody saves up turns.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence

from fewstep.errors import FewstepError
from fewstep.server.job import Failed, Job, Reason


class Busy(FewstepError):
    """There is no room; `retry_after` seconds may bring some."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Lane:
    """The jobs of one client: those that wait, and the number in the making."""

    def __init__(self, clock: float, max_active: int) -> None:
        self.waiting: deque[Job] = deque()
        self.active: set[Job] = set()
        self.clock, self.max_active = clock, max_active

    @property
    def ready(self) -> bool:
        return bool(self.waiting) and len(self.active) < self.max_active


class Scheduler:
    """Lanes in, jobs out. Every method may be called from any thread.

    max_lanes    clients at once
    max_waiting  jobs that may wait in one lane
    max_active   jobs of one lane in the making at once, so that no client ever fills the whole batch
    """

    def __init__(self, *, max_lanes: int = 256, max_waiting: int = 64, max_active: int = 4) -> None:
        self.max_lanes, self.max_waiting, self.max_active = max_lanes, max_waiting, max_active
        self._lanes: set[Lane] = set()
        self._now = 0.0  # the clock of the lane that was served last
        self._changed = threading.Condition()

    def open(self, max_active: int | None = None) -> Lane:
        """A lane of one's own, with at most `max_active` jobs in the making; raises `Busy`."""
        with self._changed:
            if len(self._lanes) >= self.max_lanes:
                raise Busy(f"all {self.max_lanes} places are taken; come back a little later", retry_after=5.0)
            lane = Lane(self._now, min(max_active or self.max_active, self.max_active))
            self._lanes.add(lane)
            return lane

    def close(self, lane: Lane) -> None:
        """Give the lane up; its jobs are cancelled."""
        self.cancel(lane)
        with self._changed:
            self._lanes.discard(lane)

    def submit(self, lane: Lane, jobs: Sequence[Job], *, latest_wins: bool = False) -> None:
        """Queue `jobs`, all or none; with `latest_wins` they take the place of all that wait. Raises `Busy`."""
        with self._changed:
            before = [] if latest_wins else list(lane.waiting)
            if len(before) + len(jobs) > self.max_waiting:
                raise Busy(
                    f"{len(before)} pictures wait already and {len(jobs)} more were asked for; "
                    f"at most {self.max_waiting} may wait",
                    retry_after=1.0,
                )
            superseded = list(lane.waiting) if latest_wins else []
            if not lane.waiting and not lane.active:
                lane.clock = max(lane.clock, self._now)
            lane.waiting = deque([*before, *jobs])
            self._changed.notify_all()
        _fail(superseded, Reason.SUPERSEDED, "a newer request took its place")

    def take(self, room: int) -> list[Job]:
        """Up to `room` jobs to start now, the least served lanes' first."""
        with self._changed:
            taken: list[Job] = []
            while len(taken) < room and (lanes := [lane for lane in self._lanes if lane.ready]):
                lane = min(lanes, key=lambda lane: lane.clock)
                job = lane.waiting.popleft()
                lane.active.add(job)
                self._now = lane.clock
                lane.clock += job.cost
                taken.append(job)
            return taken

    def finished(self, job: Job) -> None:
        """A job that `take` gave has ended, one way or another."""
        with self._changed:
            for lane in self._lanes:
                lane.active.discard(job)

    def cancel(self, lane: Lane, jobs: Collection[Job] | None = None) -> None:
        """Cancel these jobs of a lane, or all; those in the making are dropped at their next step."""
        with self._changed:
            dropped = [job for job in (*lane.waiting, *lane.active) if jobs is None or job in jobs]
            lane.waiting = deque(job for job in lane.waiting if job not in dropped)
            self._changed.notify_all()
        _fail(dropped, Reason.CANCELLED, "the request was cancelled")

    def position(self, job: Job) -> int:
        """How many jobs, at most, start before this one; 0 for one that has started."""
        with self._changed:
            for lane in self._lanes:
                if job in lane.waiting:
                    place = lane.waiting.index(job)
                    others = (min(len(other.waiting), place + 1) for other in self._lanes if other is not lane)
                    return place + sum(others)
            return 0

    @property
    def num_waiting(self) -> int:
        with self._changed:
            return sum(len(lane.waiting) for lane in self._lanes)

    @property
    def num_lanes(self) -> int:
        with self._changed:
            return len(self._lanes)

    def expire(self, now: float) -> None:
        """Fail what has waited past its deadline."""
        with self._changed:
            late = [job for lane in self._lanes for job in lane.waiting if job.deadline.at <= now]
            for lane in self._lanes:
                lane.waiting = deque(job for job in lane.waiting if job.deadline.at > now)
        _fail(late, Reason.DEADLINE, "its deadline passed before its turn came")

    def drain(self) -> None:
        """Fail everything, for the end."""
        with self._changed:
            left = [job for lane in self._lanes for job in (*lane.waiting, *lane.active)]
            for lane in self._lanes:
                lane.waiting.clear()
        _fail(left, Reason.SHUTDOWN, "the server is shutting down")

    def wait(self, seconds: float) -> None:
        """Sleep until something changes, or for so long."""
        with self._changed:
            if not any(lane.ready for lane in self._lanes):
                self._changed.wait(seconds)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _fail(jobs: Sequence[Job], reason: Reason, message: str) -> None:
    for job in jobs:
        job.tell(Failed(reason, message))
