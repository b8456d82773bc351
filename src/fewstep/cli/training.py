"""What the training commands do alike: the config, the bar, Ctrl-C, and what is said at the end."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress

from fewstep.cli.output import check_new_folder
from fewstep.cli.progress import bars, one_line_warnings
from fewstep.cli.training_options import MEASURE, given, options_of_run
from fewstep.data.walk import few
from fewstep.errors import InvalidRequest

if TYPE_CHECKING:
    from fewstep.core.objectives.base import Method
    from fewstep.data.cache_folder import Manifest
    from fewstep.train.config import RunConfig
    from fewstep.train.method import Training
    from fewstep.train.run import Hooks, Outcome

INTERRUPTED = 130


def train_as_said(
    method: Method,
    option: str,
    model: str | None,
    ctx: typer.Context,
    output: Path,
    *,
    lora: bool,
    recipe: str | None,
    dry_run: bool,
) -> int:
    """What a training command does.

    option  what the command calls `model`
    """
    values = {"model": model, **given(ctx, options_of_run(method))}
    measures = values.pop(MEASURE)
    source = values["data.source"]
    for name, value in ((option, model), ("data", source)):
        if value is None and recipe is None:
            raise InvalidRequest(f"--{name} is missing; give it, or a --recipe")
    return run(_configured(method, values, lora=lora, recipe=recipe), output, dry_run, measures)


def _configured(method: Method, values: Mapping[str, Any], *, lora: bool, recipe: str | None) -> RunConfig:
    """The recipe's config, or the default, with the options that were given; `lora` also for a recipe without one."""
    from fewstep.train.config import RunConfig
    from fewstep.train.defaults import changed, default_config, in_words

    def begin() -> RunConfig:
        asked = {name: values.get(f"objective.{name}") for name in ("target", "phases", "trajectory")}
        model, source = values["model"] or "", values["data.source"] or ""
        return default_config(method, model, source, lora=lora, **(asked if method == "distill" else {}))

    with in_words():
        config = begin() if recipe is None else function_of(recipe, "config")()
    if not isinstance(config, RunConfig):
        raise InvalidRequest(
            f"{recipe} must return a fewstep.train.config.RunConfig; it returned {type(config).__name__}"
        )
    if lora and config.lora is None:
        config = changed(config, {"lora": begin().lora})
    return changed(config, values)


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


def run(config: RunConfig, output: Path, dry_run: bool, measures: Sequence[str] | None) -> int:
    """Carry out a config, or only rehearse it; returns the exit code."""
    functions = [function_of(place, "measure") for place in measures or ()]
    check_new_folder(output)
    with one_line_warnings():
        if dry_run:
            _show_rehearsal(config, output)
            return 0
        from fewstep.train.run import train

        with training_bars() as bar, _stop_on_interrupt(bar) as interrupted:
            outcome = train(config, output, measures=functions, hooks=_hooks(bar, config, interrupted))
    return _say(outcome, output, bool(interrupted))


def training_bars() -> AbstractContextManager[Progress]:
    """Of several processes, one speaks."""
    return bars(quiet=os.environ.get("RANK", "0") != "0", remaining=True)


@contextmanager
def _stop_on_interrupt(bar: Progress) -> Iterator[list[int]]:
    """The first Ctrl-C asks the run to stop with a checkpoint; a second one stops it at once."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
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
        if interrupted:  # a cache in the making is not kept: there is nothing to wait for
            raise KeyboardInterrupt
        bar.update(task, description="encoding", completed=count)

    def began(training: Training, manifest: Manifest, seen: int) -> None:
        bar.reset(task, description="training", total=config.fit.pictures, completed=seen)
        bar.console.print(
            f"{training.parameters:,} weights in training, {manifest.pictures} pictures of {manifest.source}"
            + (f", from {seen} on" if seen else ""),
            soft_wrap=True,
            highlight=False,
        )
        if len(manifest.shapes) > 1:
            shapes = ", ".join(f"{count} of {shape}" for shape, count in manifest.shapes.items())
            bar.console.print(f"height x width: {shapes}", highlight=False, soft_wrap=True)
        for reason, names in manifest.skipped.items():
            bar.console.print(f"left out, {reason}: {few(names)}", markup=False, highlight=False, soft_wrap=True)

    def step(seen: int, scalars: dict[str, float]) -> None:
        bar.update(task, completed=seen, note=f"loss {scalars['loss']:.4f}")

    def look(seen: int, values: Mapping[str, float]) -> None:
        measured = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        bar.console.print(f"{seen}: {measured or 'a new sheet'}", highlight=False, soft_wrap=True)

    return Hooks(picture, began, step, look, lambda: bool(interrupted))


def _say(outcome: Outcome, output: Path, interrupted: bool) -> int:
    if not outcome.main:
        return 0
    if not outcome.finished:
        typer.echo(f"stopped after {outcome.seen} of {outcome.wanted} pictures; the same command goes on", err=True)
        return INTERRUPTED if interrupted else 0
    left_out = sum(len(names) for names in outcome.manifest.skipped.values())
    if left_out:
        typer.echo(f"{left_out} pictures were left out; {output / 'data.json'} names them", err=True)
    for file in outcome.files:
        typer.echo(file)
    return 0


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
