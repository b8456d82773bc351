"""`fewstep convert`: a LoRA file in the spelling that another program reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli.output import check_outputs
from fewstep.cli.progress import one_line_warnings
from fewstep.errors import InvalidRequest
from fewstep.models.adapters.lora.names import SPELLINGS


def convert(
    file: Annotated[Path, typer.Argument(help="A LoRA file, a folder as PEFT writes it, or a built-in name.")],
    to: Annotated[str, typer.Option(help="kohya (ComfyUI, AUTOMATIC1111), diffusers, or peft (a folder).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new file; for peft a folder.")],
    model: Annotated[
        str | None,
        typer.Option(help="What it was made for; needed only for bases that are not SD 1.x, 2.x or SDXL."),
    ] = None,
    max_mb: Annotated[
        float | None,
        typer.Option(help="Make it smaller, keeping what changes the weights most; ranks then differ by layer.", min=0),
    ] = None,
) -> None:
    """Write a LoRA under the names that another program reads, and smaller where that is asked for.

    **Examples**

    fewstep convert my-lora.safetensors --to kohya -o for-comfyui.safetensors

    fewstep convert my-lora.safetensors --to kohya --max-mb 40 -o small.safetensors
    """
    spelling = next((each for each in SPELLINGS if each == to), None)
    if spelling is None:
        raise InvalidRequest(f"unknown spelling {to!r}; choose one of {', '.join(SPELLINGS)}")
    if (spelling == "peft") == (output.suffix == ".safetensors"):
        raise InvalidRequest(f"{output}: a peft LoRA is a folder, the others are .safetensors files")
    check_outputs([output], None)
    from fewstep.models.adapters.lora.convert import convert as rewrite
    from fewstep.models.adapters.lora.file import LoraFile
    from fewstep.models.adapters.lora.resize import MB, resized
    from fewstep.models.loading import load
    from fewstep.models.locating import ADAPTERS

    with one_line_warnings():
        lora = LoraFile.read(file if file.exists() else ADAPTERS.get(str(file), file))
    if max_mb is not None:
        lora, share = resized(lora, max_mb * MB)
        low, high = lora.ranks[0], lora.ranks[-1]
        typer.echo(f"{share:.1%} of the squared change is left, in ranks from {low} to {high}", err=True)
    left_out = rewrite(lora, spelling, output, None if model is None else load(model, device="cpu"))
    if left_out:
        typer.echo(f"left out, for no network has them: {', '.join(left_out)}", err=True)
    typer.echo(output)
