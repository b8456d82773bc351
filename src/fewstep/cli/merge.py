"""`fewstep merge`: adapters added into a model's weights for good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from fewstep.errors import InvalidRequest


def merge(
    model: Annotated[str, typer.Argument(help="A built-in name, a folder as diffusers writes it, or a hub id.")],
    lora: Annotated[
        list[str], typer.Option(help="An adapter, and how much of it: style.safetensors:0.8; repeat for several.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new model's folder.")],
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16: the precision to save in.")] = "float16",
) -> None:
    """Add adapters into a model and save it: as fast as a model without any, and diffusers reads it.

    **Example**

    fewstep merge ./my-sd15 --lora lcm-lora --lora ink.safetensors:0.8 -o ./my-fast-ink
    """
    if not lora:
        raise InvalidRequest("nothing to merge: give at least one --lora")
    from fewstep.models.loading import load
    from fewstep.models.locating import locate
    from fewstep.models.lora import merged

    if Path(model).is_file():
        raise InvalidRequest(f"{model} is one file: merging takes a model folder, a built-in name or a hub id")
    from fewstep.models.saving import save

    result = merged(load(model, device="cpu", dtype="float32", loras=lora))
    card = dataclasses.replace(result.card, name=output.name, shared=None)
    save(dataclasses.replace(result, card=card), output, base=locate(model), dtype=dtype)
    typer.echo(output)
