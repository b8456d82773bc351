"""What a person sees on stderr while the work goes on: a bar, and warnings of one line each."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fewstep.errors import FewstepWarning
from fewstep.models.locating import BUILT_IN

if TYPE_CHECKING:
    from fewstep.core.sampling import Step
    from fewstep.models.bundle import ModelBundle


class StepBar:
    """A bar on stderr: first for the loading, which has no measure, then over all steps of all batches."""

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True, quiet=quiet))
        self._task = self._progress.add_task("loading", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def loaded(self, model: ModelBundle) -> None:
        """Say what a model was taken for, where it does not come along with fewstep."""
        if model.reference not in BUILT_IN:
            self._progress.console.print(model.described, highlight=False, markup=False, soft_wrap=True)

    def expect(self, steps: int) -> None:
        """The loading is over; so many steps follow."""
        self._progress.reset(self._task, description="painting", total=steps)

    def advance(self, _: Step) -> None:
        self._progress.advance(self._task)


class TaskBars:
    """A bar on stderr for each thing that is done, in turn, with the time that it still takes."""

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True, quiet=quiet))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, completed=done)
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextmanager
def one_line_warnings(quiet: bool = False) -> Iterator[None]:
    """Show our own warnings as one line, each once; others only where Python was asked for them (-W, PYTHONWARNINGS).

    quiet, or FEWSTEP_QUIET=1 in the environment: none of ours.
    """
    quiet = quiet or os.environ.get("FEWSTEP_QUIET", "") not in ("", "0")
    said: set[str] = set()

    def show(message: str) -> None:
        if message not in said:
            said.add(message)
            print("warning:", message, file=sys.stderr)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FewstepWarning)
        if quiet:
            warnings.simplefilter("ignore", FewstepWarning)
        warnings.showwarning = lambda message, *_: show(str(message))
        yield
