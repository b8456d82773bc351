"""A command that takes records is, for typer, one that takes their fields."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from fewstep.cli.main import app as fewstep_app
from fewstep.cli.spread import Table, spread

ROWS = Table((("steps", Annotated[int | None, typer.Option(help="How many.")], None), ("tile", bool, False)))


@dataclass(frozen=True)
class Loading:
    model: Annotated[str, typer.Option(help="What paints.")]
    lora: Annotated[list[str] | None, typer.Option(help="On top.")] = None


def test_records_and_tables_are_passed_whole() -> None:
    seen: list[Any] = []
    app = typer.Typer()

    @app.command()
    @spread
    def paint(
        *, prompt: Annotated[str, typer.Argument()], how: Annotated[dict[str, Any], ROWS], loading: Loading
    ) -> None:
        """Paint."""
        seen.append((prompt, how, loading))

    result = CliRunner().invoke(app, ["fox", "--steps", "4", "--model", "m", "--lora", "a", "--lora", "b"])
    assert result.exit_code == 0, result.output
    assert seen == [("fox", {"steps": 4, "tile": False}, Loading("m", ["a", "b"]))]
    told = CliRunner().invoke(app, ["--help"]).output
    assert all(words in told for words in ("Paint.", "What paints.", "How many.", "--tile"))
    assert CliRunner().invoke(app, ["fox"]).exit_code == 2  # a field without a default is asked for


@pytest.mark.parametrize(
    "command", [each.callback for each in fewstep_app.registered_commands], ids=lambda it: it.__name__
)
def test_no_command_is_written_with_more_than_thirty_arguments(command: Any) -> None:
    assert len(inspect.signature(inspect.unwrap(command)).parameters) <= 30
