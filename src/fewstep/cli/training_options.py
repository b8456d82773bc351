"""The options of the training commands, made from the records of a run, and how what people write in them is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand

from fewstep.errors import InvalidRequest

if TYPE_CHECKING:
    from fewstep.core.objectives.base import Method
    from fewstep.core.settings import About, Record

TypeForm: TypeAlias = "type | GenericAlias | UnionType"
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
GIVEN = "fewstep.given"
MEASURE = "measure"  # is no setting of the config
MEASURE_HELP = "my.py:function, called with the model; returns numbers by name."


@dataclass(frozen=True)
class TrainingOption:
    """setting  the dotted name in the config ("fit.lr")
    type     of the setting
    """

    setting: str
    type: TypeForm
    about: About

    @property
    def name(self) -> str:
        """The parameter of the command."""
        return self.setting.replace(".", "__")

    @property
    def parameter(self) -> Parameter:
        """What typer makes the option of. Where nothing is given the value is None, and the config's own stays."""
        kind = next((each for each in (bool, int, float) if self.type in (each, each | None)), str)
        option = typer.Option(
            str(self.about.option), help=self.about.help, rich_help_panel=self.about.panel, show_default=False
        )
        annotation = Annotated[(list[str] if self.type == tuple[str, ...] else kind) | None, option]  # type: ignore[valid-type]
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def read(self, given: Any) -> Any:
        """What people wrote, as the setting wants it; raises `InvalidRequest`."""
        reader = READERS.get(self.type)
        return given if reader is None or given is None else reader(given)


def command_with(options: Callable[[], list[TrainingOption]]) -> type[TyperCommand]:
    """A command with these options, beside its own. They are made when they are asked for: that imports torch.

    What is given of them is in the context that the command is passed: `given`.
    """

    class WithSettings(TyperCommand):
        made: tuple[str, ...] = ()

        def get_params(self, ctx: Any) -> list[Any]:
            if not self.made:
                params = _params(options())
                self.made = tuple(each.name for each in params)
                self.params += params
            return super().get_params(ctx)

        def invoke(self, ctx: Any) -> Any:
            ctx.meta[GIVEN] = {name: ctx.params.pop(name) for name in self.made}
            return super().invoke(ctx)

    return WithSettings


def _params(options: list[TrainingOption]) -> list[Any]:
    """What typer makes of a command that has them."""

    def command(**_: object) -> None:
        """Is never called."""

    parameters = [option.parameter for option in options]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return list(typer.main.get_command(app).params)


def options_of_run(method: Method) -> list[TrainingOption]:
    """The settings of a run that people may set on the command line, in the order of `--help`."""
    from fewstep.core.objectives import objectives
    from fewstep.core.settings import About
    from fewstep.data.config import DataConfig
    from fewstep.train.config import PANELS, WATCHED, FitConfig, LoraConfig, RunConfig, WatchConfig

    found = [*_of(DataConfig, "data."), *_of(FitConfig, "fit."), *_of(LoraConfig, "lora.")]
    for objective in objectives().values():
        if objective.method == method:
            found += _of(objective, "objective.")
    if method == "distill":
        found += _which_objective()
    found += [*_of(WatchConfig, "watch."), *_of(RunConfig, "")]
    found.append(TrainingOption(MEASURE, tuple[str, ...], About("--measure", MEASURE_HELP, WATCHED)))
    once = {option.setting: option for option in found}.values()
    return sorted(once, key=lambda option: PANELS.index(str(option.about.panel)))


def options_of_cache() -> list[TrainingOption]:
    """The settings that are about the data, and about where and how its encoders run."""
    from fewstep.data.config import DataConfig

    about_data = [*_of(DataConfig, "data.")][1:]  # the first is the source, which a cache cannot do without
    return [*about_data, *(each for each in options_of_run("style") if each.setting in ("fit.precision", "device"))]


def given(ctx: typer.Context, options: list[TrainingOption]) -> dict[str, Any]:
    """What a command line gives, by the settings' dotted names; None where it says nothing of one."""
    return {option.setting: option.read(ctx.meta[GIVEN][option.name]) for option in options}


def _of(record: type[Record], prefix: str) -> Iterator[TrainingOption]:
    from fewstep.core.settings import settings
    from fewstep.train.config import HOW

    types = get_type_hints(record)
    for name, about in settings(record):
        if about.option is not None:
            panel = about.panel or getattr(record, "panel", HOW)
            yield TrainingOption(prefix + name, types[name], dataclasses.replace(about, panel=panel))


def _which_objective() -> Iterator[TrainingOption]:
    """The options that say which distillation is meant."""
    from fewstep.core.objectives import targets
    from fewstep.core.settings import About
    from fewstep.train.config import HOW

    *most, last = (
        f"{kind.targets[name]} ({name}{'; brings its own sizes, where there is no --recipe' if kind.cost > 1 else ''})"
        for name, kind in targets().items()
    )
    about = f"What the student is held against: {', '.join(most)}, or {last}. [default: student]"
    yield TrainingOption("objective.target", str, About("--target", about, HOW))
    about = "Learn to reach all earlier times, walked by TCD's sampler. [default: where no --phases are given]"
    yield TrainingOption("objective.trajectory", bool, About("--trajectory/--no-trajectory", about, HOW))


def size_of(text: str) -> tuple[int, int]:
    """ "512" or "HEIGHTxWIDTH"; raises `InvalidRequest`."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdigit() for side in sides):
        raise InvalidRequest(f"the size is {text!r}; give pixels as 512 or HEIGHTxWIDTH")
    return int(sides[0]), int(sides[-1])


def numbers_of(text: str) -> tuple[int, ...]:
    """ "1,2,4"; raises `InvalidRequest`."""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise InvalidRequest(f"the steps are {text!r}; give numbers as 1,2,4,8")
    return tuple(int(part) for part in text.split(","))


def w_range_of(text: str) -> tuple[float, float]:
    """ "none", "7.5" or "4:14", in the guidance scale that people know, as LCM's w; raises `InvalidRequest`."""
    from fewstep.core.guidance import w_from_guidance_scale

    if text == "none":
        return 0.0, 0.0
    try:
        low, high = (w_from_guidance_scale(float(part)) for part in (text.split(":") * 2)[:2])
    except ValueError as error:
        raise InvalidRequest(f"the guidance is {text!r}; give a scale (7.5), a range (1:9), or none") from error
    return low, high


def _several(texts: list[str]) -> tuple[str, ...] | None:
    return tuple(texts) or None


READERS: dict[Any, Callable[[Any], Any]] = {
    tuple[int, int] | None: size_of,
    tuple[int, ...]: numbers_of,
    tuple[float, float] | None: w_range_of,
    tuple[str, ...]: _several,
}
