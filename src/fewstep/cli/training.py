"""What the training commands have in common: their options, the bar, Ctrl-C, and what is said at the end."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fewstep.cli.progress import one_line_warnings
from fewstep.errors import InvalidRequest

if TYPE_CHECKING:
    from fewstep.data.cache_folder import Manifest
    from fewstep.train.config import RunConfig
    from fewstep.train.run import Hooks, Outcome

DATA, HOW, WATCHED, WHERE = "Data", "How", "What is watched", "Where"
INTERRUPTED = 130


def option(*names: str, help: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


Data = Annotated[
    str | None,
    option(
        "--data",
        help="A folder of pictures (captions: metadata.jsonl, a .txt beside each, or the file names), WebDataset tars, "
        "a Hugging Face dataset's folder or id, or a cache.",
        panel=DATA,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The run's folder; the same command again goes on.", show_default=False)
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="A Python file with a function that returns a RunConfig: my.py or my.py:function.", metavar="FILE"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print what would run, and stop.")]
Size = Annotated[str | None, option("--size", help="Pixels: 512, or HEIGHTxWIDTH. [default: the model's]", panel=DATA)]
Flip = Annotated[bool | None, option("--flip/--no-flip", help="Also every picture's mirror image.", panel=DATA)]
Suffix = Annotated[
    str | None, option("--suffix", help='Added to every caption, to call a style: ", ink style".', panel=DATA)
]
ImageColumn = Annotated[str | None, option("--image-column", help="Of a Hugging Face dataset.", panel=DATA)]
CaptionColumn = Annotated[str | None, option("--caption-column", help="Of a dataset, or in a tar's .json.", panel=DATA)]
Pictures = Annotated[
    int | None, option("--pictures", help="Pictures to see in all; a larger number goes on.", panel=HOW)
]
BatchSize = Annotated[
    int | None, option("--batch-size", help="Pictures a step, over all processes. [default: 16]", panel=HOW)
]
Accumulate = Annotated[
    int | None, option("--accumulate", help="Parts of a batch, for less memory. [default: 1]", panel=HOW)
]
Lr = Annotated[float | None, option("--lr", help="The learning rate.", panel=HOW)]
OptimizerName = Annotated[str | None, option("--optimizer", help="adamw, muon, adamw8bit. [default: adamw]", panel=HOW)]
Precision = Annotated[
    str | None, option("--precision", help="float32, bfloat16, float16. [default: float32]", panel=HOW)
]
Checkpointing = Annotated[
    bool | None, option("--checkpointing/--no-checkpointing", help="Less memory, a third more time.", panel=HOW)
]
Seed = Annotated[int | None, option("--seed", help="Of everything that is drawn. [default: 0]", panel=HOW)]
Rank = Annotated[
    int | None, option("--rank", help="The LoRA's rank: larger learns more, and is a larger file.", panel=HOW)
]
Alpha = Annotated[float | None, option("--alpha", help="The LoRA's alpha. [default: the rank]", panel=HOW)]
Metric = Annotated[str | None, option("--metric", help="l2, huber, pseudo_huber, cauchy. [default: huber]", panel=HOW)]
K = Annotated[
    int | None, option("--k", help="The skipping interval, of 1000 times. [default: the grid's, 20]", panel=HOW)
]
Grid = Annotated[int | None, option("--grid", help="Times that are trained on. [default: 50]", panel=HOW)]
Empty = Annotated[float | None, option("--empty", help="Share of empty captions.", panel=HOW)]
Target = Annotated[str | None, option("--target", help="student (no gradient) or ema. [default: student]", panel=HOW)]
Prompts = Annotated[
    list[str] | None, option("--prompt", help="Of the sheets; repeat for several. [default: captions]", panel=WATCHED)
]
Steps = Annotated[str | None, option("--steps", help="Of the sheets. [default: 1,2,4,8]", panel=WATCHED)]
Every = Annotated[
    int | None, option("--every", help="Pictures between sheets. [default: a tenth of all]", panel=WATCHED)
]
Measures = Annotated[
    list[str] | None,
    option("--measure", help="my.py:function, called with the model; returns numbers by name.", panel=WATCHED),
]
Best = Annotated[
    str | None,
    option("--best", help="The measure to keep the best by (the least; with a minus, the most).", panel=WATCHED),
]
Patience = Annotated[
    int | None, option("--patience", help="Sheets without a better measure before it stops.", panel=WATCHED)
]
TensorBoard = Annotated[
    bool | None, option("--tensorboard/--no-tensorboard", help="Also log for TensorBoard.", panel=WATCHED)
]
Device = Annotated[str | None, option("--device", help="cpu, cuda, mps. [default: the best one here]", panel=WHERE)]
Minutes = Annotated[float | None, option("--minutes", help="Stop after so long, with a checkpoint.", panel=WHERE)]
CheckpointMinutes = Annotated[
    float | None, option("--checkpoint-minutes", help="Between checkpoints. [default: 5]", panel=WHERE)
]


def configured(recipe: str | None, begin: Callable[[], RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """The recipe's config, or `begin`'s, with the options that were given."""
    from fewstep.train.config import RunConfig
    from fewstep.train.defaults import changed

    config = begin() if recipe is None else function_of(recipe, "config")()
    if not isinstance(config, RunConfig):
        raise InvalidRequest(
            f"{recipe} must return a fewstep.train.config.RunConfig; it returned {type(config).__name__}"
        )
    return changed(config, values)


def given(name: str, value: str | None, recipe: str | None) -> str:
    """An option that only a recipe makes superfluous."""
    if value is None and recipe is None:
        raise InvalidRequest(f"--{name} is missing; give it, or a --recipe")
    return value or ""


def function_of(place: str, default: str) -> Any:
    """`file.py:function`; the function `default` where none is named."""
    file, _, name = place.rpartition(":") if ":" in place[2:] else (place, "", default)
    path = Path(file).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"there is no Python file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise InvalidRequest(f"{path} has no function {name!r}")
    return function


def size_of(text: str | None) -> tuple[int, int] | None:
    """ "512" or "HEIGHTxWIDTH"; raises `InvalidRequest`."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdigit() for side in sides):
        raise InvalidRequest(f"the size is {text!r}; give pixels as 512 or HEIGHTxWIDTH")
    return int(sides[0]), int(sides[-1])


def numbers_of(text: str | None) -> tuple[int, ...] | None:
    """ "1,2,4"; raises `InvalidRequest`."""
    if text is None:
        return None
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise InvalidRequest(f"the steps are {text!r}; give numbers as 1,2,4,8")
    return tuple(int(part) for part in text.split(","))


def w_range_of(text: str | None) -> tuple[float, float] | None:
    """ "none", "7.5" or "4:14", in the guidance scale that people know, as LCM's w; raises `InvalidRequest`."""
    from fewstep.core.guidance import w_from_guidance_scale

    if text is None:
        return None
    if text == "none":
        return 0.0, 0.0
    try:
        low, high = (w_from_guidance_scale(float(part)) for part in (text.split(":") * 2)[:2])
    except ValueError as error:
        raise InvalidRequest(f"the guidance is {text!r}; give a scale (7.5), a range (1:9), or none") from error
    return low, high


def run(config: RunConfig, output: Path, dry_run: bool, measures: list[str] | None) -> int:
    """Carry out a config, or only rehearse it; returns the exit code."""
    functions = [function_of(place, "measure") for place in measures or ()]
    with one_line_warnings():
        if dry_run:
            _show_rehearsal(config, output)
            return 0
        from fewstep.train.run import train

        with progress_bar() as bar, _stop_on_interrupt(bar) as interrupted:
            outcome = train(config, output, measures=functions, hooks=_hooks(bar, config, interrupted))
    return _say(outcome, output, bool(interrupted))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as bar:
        yield bar


@contextmanager
def _stop_on_interrupt(bar: Progress) -> Iterator[list[int]]:
    """The first Ctrl-C asks the run to stop with a checkpoint; a second one stops it at once."""
    asked: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        bar.console.print("stopping after this step, with a checkpoint (again: at once, without)")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hooks(bar: Progress, config: RunConfig, interrupted: list[int]) -> Hooks:
    from fewstep.train.run import Hooks

    task = bar.add_task("loading", total=None, note="")

    def picture(count: int) -> None:
        bar.update(task, description="encoding", completed=count)

    def began(trainee: Any, manifest: Manifest, seen: int) -> None:
        bar.reset(task, description="training", total=config.fit.pictures, completed=seen)
        bar.console.print(
            f"{trainee.parameters:,} weights in training, {manifest.pictures} pictures of {manifest.source}"
            + (f", from {seen} on" if seen else "")
        )
        for reason, names in manifest.skipped.items():
            bar.console.print(f"left out, {reason}: {few(names)}", markup=False, highlight=False)

    def step(seen: int, scalars: dict[str, float]) -> None:
        bar.update(task, completed=seen, note=f"loss {scalars['loss']:.4f}")

    def look(seen: int, values: Mapping[str, float]) -> None:
        measured = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        bar.console.print(f"{seen}: {measured or 'a new sheet'}", highlight=False)

    return Hooks(picture, began, step, look, lambda: bool(interrupted))


def _say(outcome: Outcome, output: Path, interrupted: bool) -> int:
    if not outcome.finished:
        typer.echo(f"stopped after {outcome.seen} of {outcome.wanted} pictures; the same command goes on", err=True)
        return INTERRUPTED if interrupted else 0
    left_out = sum(len(names) for names in outcome.manifest.skipped.values())
    if left_out:
        typer.echo(f"{left_out} pictures were left out; {output / 'data.json'} names them", err=True)
    for file in outcome.files:
        typer.echo(file)
    return 0


def few(names: Any, most: int = 5) -> str:
    return ", ".join(list(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _show_rehearsal(config: RunConfig, output: Path) -> None:
    from fewstep.train.rehearsal import rehearse

    facts = rehearse(config, output)
    for name, value in facts.config.items():
        typer.echo(f"{name:42} {value}")
    typer.echo()
    trained, total = facts.parameters
    typer.echo(f"{'weights in training':42} {trained:,} of {total:,}")
    typer.echo(f"{'data':42} {facts.pictures} pictures; {few(facts.captions, 3)}")
    for name, count in facts.batch.items():
        typer.echo(f"{name:42} {count}")
    for name, count in (*facts.memory.items(), ("together, without activations", sum(facts.memory.values()))):
        typer.echo(f"{'memory: ' + name:42} {count / 1e6:,.0f} MB")
    typer.echo(f"{'free: memory, disk':42} {facts.free[0] / 1e9:,.1f} GB, {facts.free[1] / 1e9:,.1f} GB")
    for advice in facts.advice:
        typer.echo(f"note: {advice}", err=True)
