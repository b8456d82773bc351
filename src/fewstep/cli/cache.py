"""`fewstep cache`: pictures and captions to latents and text states, ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli import training_options as t
from fewstep.cli.output import check_new_folder
from fewstep.cli.training import training_bars
from fewstep.data.walk import few


def cache(
    ctx: typer.Context,
    data: Annotated[str, typer.Option(help="As in `fewstep distill`.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The cache's new folder.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="Whose autoencoder and text encoder: the model that will be trained, or its teacher.")
    ] = "starter-teacher",
) -> None:
    """Encode a data set once, for many runs: give the cache as --data.

    **Example**

    fewstep cache --model starter-teacher --data ./pictures -o ./pictures.cache
    """
    from fewstep.cli.progress import one_line_warnings
    from fewstep.data.building import build_cache
    from fewstep.data.config import DataConfig
    from fewstep.models.loading import load

    values = t.given(ctx, t.options_of_cache())
    given = {name: value for name, value in values.items() if name.startswith("data.") and value is not None}
    config = DataConfig(source=data, **{name.removeprefix("data."): value for name, value in given.items()})
    check_new_folder(output)
    with one_line_warnings(), training_bars() as bar:
        task = bar.add_task("loading", total=None, note="")
        encoders = load(model, device=values["device"], dtype=values["fit.precision"])
        count = lambda done: bar.update(task, description="encoding", completed=done)  # noqa: E731
        manifest = build_cache(encoders, config, output, count)
    for reason, names in manifest.skipped.items():
        typer.echo(f"left out, {reason}: {few(names)}", err=True)
    typer.echo(f"{output}: {manifest.pictures} pictures, {manifest.captions - 1} captions")
    if len(manifest.shapes) > 1:
        typer.echo("height x width: " + ", ".join(f"{count} of {shape}" for shape, count in manifest.shapes.items()))
