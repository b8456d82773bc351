"""The `fewstep` command: one line for every mistake, exit code 2, and no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

import fewstep
from fewstep.cli.batch import batch
from fewstep.cli.cache import cache
from fewstep.cli.compare import compare
from fewstep.cli.convert import convert
from fewstep.cli.distill import distill
from fewstep.cli.doctor import doctor
from fewstep.cli.evaluate import evaluate
from fewstep.cli.export import export
from fewstep.cli.finetune import finetune
from fewstep.cli.generate import generate
from fewstep.cli.inspect import inspect
from fewstep.cli.merge import merge
from fewstep.cli.serve import serve
from fewstep.cli.train_lora import train_lora
from fewstep.cli.training_options import command_with, options_of_cache, options_of_run
from fewstep.cli.travel import travel
from fewstep.errors import FewstepError
from fewstep.files import FULL, MAKE_ROOM

INTERRUPTED = 130
# How long torch's threads on Linux look for work before they sleep: long enough that one step's many small products do
# not wait for them to wake, short enough to leave a core to the event loop and the picture coders.
SPINS = "10000"

app = typer.Typer(
    name="fewstep",
    help="Latent Consistency Models: a sentence becomes a picture in one to four steps.",
    epilog='Start with: fewstep generate "a cat face" -o cat.png',
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(generate)
app.command()(batch)
app.command()(travel)
app.command()(serve)
app.command(cls=command_with(partial(options_of_run, "distill")))(distill)
app.command(cls=command_with(partial(options_of_run, "finetune")))(finetune)
app.command("train-lora", cls=command_with(partial(options_of_run, "style")))(train_lora)
app.command(cls=command_with(options_of_cache))(cache)
app.command()(evaluate)
app.command()(compare)
app.command()(doctor)
app.command()(inspect)
app.command()(convert)
app.command()(merge)
app.command()(export)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fewstep {fewstep.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Latent Consistency Models: a sentence becomes a picture in one to four steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0, 2 for a mistake in the input, 130 for Ctrl-C."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        code = app(args=arguments, prog_name="fewstep", standalone_mode=False)
    except (FewstepError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message:
            print("error:", " ".join(message.split()), file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"error: {error.filename or 'a file could not be written'}: {MAKE_ROOM}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        print(f"error: not enough memory ({reason}); ask for less at a time, or free some", file=sys.stderr)
        return 2
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _out_of_memory(error: RuntimeError) -> bool:
    from fewstep.models.memory import out_of_memory

    return out_of_memory(error)
