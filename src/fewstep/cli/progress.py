"""What a person sees on stderr while the work goes on: a bar, and warnings of one line each."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewstep.errors import FewstepWarning

if TYPE_CHECKING:
    from fewstep.core.sampling import Step


@contextmanager
def step_bar(num_images: int, batch_size: int) -> Iterator[Callable[[Step], None]]:
    """A bar over all steps of all batches; gives the function that moves it on."""
    batches = math.ceil(num_images / batch_size)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading", total=None)

        def advance(step: Step) -> None:
            progress.update(task, description="painting", total=batches * step.num_steps, advance=1)

        yield advance


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show our own warnings as one line; others only where Python was asked for them (-W, PYTHONWARNINGS)."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FewstepWarning)
        warnings.showwarning = lambda message, *_: print("warning:", message, file=sys.stderr)
        yield
