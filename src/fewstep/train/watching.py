"""What is looked at while a run goes on: sheets of samples at several step counts, measures, and the best weights."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file
from torch import Tensor

from fewstep.errors import FewstepWarning, InvalidConfig
from fewstep.files import replacing, write_tensors, writing
from fewstep.imaging.contact_sheet import contact_sheet
from fewstep.models.latent_model import LatentModel
from fewstep.pipelines.text2image import text2image
from fewstep.train.config import WatchConfig
from fewstep.train.curves import write_report
from fewstep.train.log import read_log
from fewstep.train.measures import TeacherGap
from fewstep.train.processes import Processes
from fewstep.train.sharding import all_whole
from fewstep.train.state import TrainState

Measure = Callable[[LatentModel], Mapping[str, float]]
MEASURES = "measures.jsonl"
BEST = "best.safetensors"
SHEETS = "sheets"
BOARD = "tensorboard"
APART = 1.25  # times the gap that a run began with


class Board(Protocol):
    """What TensorBoard's writer is asked for."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


@dataclass(eq=False)
class Watch:
    """Looks at `bundle`, with its averaged weights, every so many pictures.

    measure    what is measured of it, by name; `config.best` is one of the names
    processes  of a divided network all look together, and the main one writes
    awake      wakes what rests while the network learns
    finished   set when patience is over
    """

    config: WatchConfig
    bundle: LatentModel
    folder: Path
    every: int
    prompts: tuple[str, ...]
    steps: tuple[int, ...]
    measure: Measure | None = None
    processes: Processes = field(default_factory=Processes)
    awake: Callable[[], AbstractContextManager[None]] = nullcontext
    on_look: Callable[[int, Mapping[str, float]], None] | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False
    due: int | None = None
    board: Board | None = None

    def begin(self, seen: int) -> None:
        """Take up what was measured up to here; what came later was lost with its checkpoint."""
        path = self.folder / MEASURES
        lines = path.read_text().splitlines() if path.is_file() else []
        self.rows = [row for line in lines if (row := json.loads(line))["seen"] <= seen]
        if len(self.rows) < len(lines) and self.processes.is_main:
            self._write_rows()
        self.due = (int(self.rows[-1]["seen"]) // self.every + 1) * self.every if self.rows else seen
        if self.config.tensorboard and self.processes.is_main:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.folder / BOARD), purge_step=seen)

    def step(self, seen: int, scalars: Mapping[str, float]) -> None:
        """Pass a step's scalars on to TensorBoard, where it is wanted."""
        self._show("train", seen, scalars)

    def look(self, state: TrainState) -> None:
        """Where it is due: a sheet, the measures, the report, and the weights where they are the best so far."""
        if self.due is None or state.seen < self.due:
            return
        self.due = (state.seen // self.every + 1) * self.every
        self.look_now(state)

    def look_now(self, state: TrainState) -> None:
        if any(row["seen"] == state.seen for row in self.rows):
            return
        with self.awake(), state.averaged():
            sheet = self._sheet(state.seen)
            values = self.processes.as_main(self.measure(self.bundle) if self.measure is not None else {})
        self._check(values)
        best = self.best_row()
        self.rows.append({"seen": state.seen, **values})
        self._warn_of_collapse()
        if values and self.config.best is not None and self.best_row() is not best:
            self._keep(state)
        self.finished = self._is_out_of_patience()
        if self.processes.is_main:
            self._report(state.seen, values, sheet)

    def _report(self, seen: int, values: Mapping[str, float], sheet: Path) -> None:
        self._write_rows()
        write_report(self.folder / "report.html", read_log(self.folder), self.rows, sheet)
        self._show("measure", seen, values)
        if self.on_look is not None:
            self.on_look(seen, values)

    def _show(self, group: str, seen: int, values: Mapping[str, float]) -> None:
        if self.board is not None:
            with writing(self.folder / BOARD):
                for name, value in values.items():
                    self.board.add_scalar(f"{group}/{name}", value, seen)

    def best_row(self) -> dict[str, float] | None:
        """The row of measures that is best by `config.best`; the earliest of equals; None without measures."""
        rows = [row for row in self.rows if math.isfinite(self._value(row))]
        return min(rows, key=self._value, default=None)

    def best_weights(self) -> dict[str, Tensor] | None:
        """The averaged weights of the best row; None where none were kept."""
        path = self.folder / BEST
        return load_file(path) if self.config.best is not None and path.is_file() else None

    def _value(self, row: Mapping[str, float]) -> float:
        name = (self.config.best or "").removeprefix("-")
        value = row.get(name)
        if value is None:
            return math.inf
        return -float(value) if (self.config.best or "").startswith("-") else float(value)

    def _check(self, values: Mapping[str, float]) -> None:
        name = (self.config.best or "").removeprefix("-")
        if name and name not in values:
            raise InvalidConfig(f"the best is to be chosen by {name!r}, and measured are {', '.join(values) or 'none'}")

    def _keep(self, state: TrainState) -> None:
        weights = all_whole(state.ema, keep=self.processes.is_main)
        if not self.processes.is_main:
            return
        write_tensors(self.folder / BEST, weights, {"seen": str(state.seen)})

    def _warn_of_collapse(self) -> None:
        """The loss does not tell when a student falls apart; its distance from the teacher's pictures does."""
        gaps = [row[TeacherGap.name] for row in self.rows if TeacherGap.name in row]
        if len(gaps) > 1 and gaps[-1] > max(1.0, APART * gaps[0]):
            warnings.warn(
                f"{TeacherGap.name} is {gaps[-1]:.2f}, and began at {gaps[0]:.2f}: one step is further from the "
                "teacher's pictures than the mean of all pictures is. The run fell apart, whatever its loss says: look "
                f"at the sheets, and begin anew with a lower --lr (--best {TeacherGap.name} keeps the best weights)",
                FewstepWarning,
                stacklevel=4,
            )

    def _is_out_of_patience(self) -> bool:
        best, patience = self.best_row(), self.config.patience
        return patience is not None and best is not None and len(self.rows) - 1 - self.rows.index(best) >= patience

    def _sheet(self, seen: int) -> Path:
        """A row of all prompts for each number of steps, all from the same noise."""
        model = self.bundle
        images = [
            image
            for count in self.steps
            for image in text2image(
                model, self.prompts, steps=count, seed=self.config.seed, guidance_scale=self.config.guidance_scale
            )
        ]
        path = self.folder / SHEETS / f"{seen:08d}.png"
        if not self.processes.is_main:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            contact_sheet(images, columns=len(self.prompts)).save(temporary, format="PNG")
        return path

    def _write_rows(self) -> None:
        with replacing(self.folder / MEASURES) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))


def watch_of(
    config: WatchConfig,
    bundle: LatentModel,
    folder: Path,
    pictures: int,
    examples: Sequence[str],
    measure: Measure | None,
    processes: Processes | None = None,
) -> Watch:
    """A `Watch` with what the config leaves open: a tenth of the run, captions of the data, 1, 2, 4, 8 steps."""
    prompts = config.prompts or tuple(examples[:8]) or ("",)
    steps = config.steps or ((1, 2, 4, 8) if bundle.profile.kind == "lcm" else (bundle.profile.steps,))
    every = config.every or max(pictures // 10, 1)
    return Watch(config, bundle, folder, every, prompts, steps, measure, processes or Processes())


def joined(measures: Sequence[Measure]) -> Measure | None:
    """Several measures as one."""
    if not measures:
        return None
    return lambda model: {name: value for measure in measures for name, value in measure(model).items()}
