"""What a person sees on stderr while the work goes on: bars, or lines where there is no terminal, and warnings."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fewstep.errors import FewstepWarning
from fewstep.models.locating import BUILT_IN

if TYPE_CHECKING:
    from fewstep.core.samplers.base import Step
    from fewstep.models.latent_model import LatentModel

BETWEEN_LINES = 10.0  # seconds


def is_quiet(asked: bool = False) -> bool:
    """Whether advice and bars are unwanted: by --quiet, or by FEWSTEP_QUIET=1 in the environment, which is the same."""
    return asked or os.environ.get("FEWSTEP_QUIET", "") not in ("", "0")


@contextmanager
def bars(quiet: bool = False, remaining: bool = False) -> Iterator[Progress]:
    """Bars on stderr for its tasks; where that is no terminal, a line for each that runs every ten seconds.

    remaining  with the time that is left, and a note that a task may have
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if remaining:
        columns += [TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    console = Console(stderr=True, quiet=is_quiet(quiet))
    progress = Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False)
    over = threading.Event()
    lines = threading.Thread(target=_say_lines, args=(progress, over), daemon=True)
    if not console.is_terminal and not console.quiet:
        lines.start()
    try:
        with progress:
            yield progress
    finally:
        over.set()
        if lines.is_alive():
            lines.join()


def _say_lines(progress: Progress, over: threading.Event) -> None:
    while not over.wait(BETWEEN_LINES):
        for task in progress.tasks:
            if not task.finished:
                progress.console.print(_line(task), highlight=False, markup=False, soft_wrap=True)


def _line(task: Task) -> str:
    """`training: 320 of 2000, 41 s, loss 0.0123`."""
    count = "" if task.total is None else f" {task.completed:.0f} of {task.total:.0f},"
    note = task.fields.get("note")
    return f"{task.description}:{count} {task.elapsed or 0:.0f} s" + (f", {note}" if note else "")


class StepBar:
    """A bar on stderr: first for the loading, which has no measure, then over all steps of all batches."""

    def __init__(self, quiet: bool = False) -> None:
        self._bars = bars(quiet)

    def __enter__(self) -> Self:
        self._progress = self._bars.__enter__()
        self._task = self._progress.add_task("loading", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.__exit__(*error)  # type: ignore[arg-type]

    def loaded(self, model: LatentModel) -> None:
        """Say what a model was taken for, where it does not come along with fewstep."""
        if model.origin.reference not in BUILT_IN:
            said = f"{model.name}: {model.profile.described}"
            self._progress.console.print(said, highlight=False, markup=False, soft_wrap=True)

    def expect(self, steps: int) -> None:
        """The loading is over; so many steps follow."""
        self._progress.reset(self._task, description="painting", total=steps)

    def advance(self, _: Step | None = None) -> None:
        self._progress.advance(self._task)


class TaskBars:
    """A bar on stderr for each thing that is done, in turn, with the time that it still takes."""

    def __init__(self, quiet: bool = False) -> None:
        self._bars = bars(quiet, remaining=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress = self._bars.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.__exit__(*error)  # type: ignore[arg-type]

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, completed=done, note="")
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextmanager
def one_line_warnings(quiet: bool = False) -> Iterator[None]:
    """Show our own warnings as one line, each once; others only where Python was asked for them (-W, PYTHONWARNINGS).

    quiet, or FEWSTEP_QUIET=1: none of ours.
    """
    said: set[str] = set()

    def show(message: str) -> None:
        if message not in said:
            said.add(message)
            print("warning:", message, file=sys.stderr)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FewstepWarning)
        if is_quiet(quiet):
            warnings.simplefilter("ignore", FewstepWarning)
        warnings.showwarning = lambda message, *_: show(str(message))
        yield
