"""`fewstep compare`: two evaluations, and which is better where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli.output import check_outputs


def compare(
    a: Annotated[Path, typer.Argument(help="The results.json of an evaluation.")],
    b: Annotated[Path, typer.Argument(help="That of another one.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also what may be chance, and the teacher and its solvers.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a Markdown table there.", show_default=False)
    ] = None,
) -> None:
    """Say which of two evaluations is better where, and which differences may be chance.

    Models are compared at equal step counts. Where both evaluations used the same prompts and seeds, their pictures are
    compared in pairs, which finds smaller differences. p is corrected for the number of comparisons (Holm).

    **Examples**

    fewstep compare before/results.json after/results.json

    fewstep compare a.json b.json --all -o comparison.md
    """
    if output is not None:
        check_outputs([output], None)
    from rich.console import Console
    from rich.table import Table

    from fewstep.evaluate.compare import as_markdown
    from fewstep.evaluate.compare import compare as compared
    from fewstep.evaluate.metrics import metrics
    from fewstep.evaluate.results import Results
    from fewstep.files import replacing

    comparison = compared(Results.read(a), Results.read(b))
    if output is not None:
        with replacing(output) as file:
            file.write_text(as_markdown(comparison), encoding="utf-8")
    table = Table("", "measure", "A", "B", "p", "better", title=f"A: {a}   B: {b}")
    for row in comparison.rows:
        if everything or (row.better and row.a.role == "model"):
            metric = metrics()[row.name]
            values = [metric.written(side.measures[row.name].value) for side in (row.a, row.b)]
            table.add_row(row.title, metric.title, *values, f"{row.difference.p:.2g}", row.better or "may be chance")
    console = Console()
    if table.row_count:
        console.print(table)
    typer.echo(comparison.verdict)
    for remark in comparison.remarks:
        typer.echo(f"note: {remark}", err=True)
