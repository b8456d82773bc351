"""`fewstep export`: any model as a folder that other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.output import check_outputs
from fewstep.files import check_new


def export(
    model: Annotated[
        str,
        typer.Argument(help="starter, starter-teacher, a folder, a .safetensors checkpoint, or a hub id."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder.")],
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16, bfloat16. [default: as the weights are stored]", show_default=False),
    ] = None,
) -> None:
    """Write a model as a folder that diffusers opens: the built-in ones too, whose weights are packed.

    **Examples**

    fewstep export starter -o ./starter

    python -c "from diffusers import DiffusionPipeline; DiffusionPipeline.from_pretrained('./starter')"
    """
    check_new(output)
    check_outputs([output], None)
    check_beforehand(model, {"dtype": dtype})
    from fewstep.models.saving import export as write

    write(model, output, dtype)
    typer.echo(output)
