"""`fewstep merge`: adapters added into a model's weights for good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.options import Config, KindOption, LoadOptions, PredictionType, Unet, Vae, Variant, ZeroSnr
from fewstep.cli.output import check_outputs
from fewstep.cli.progress import one_line_warnings
from fewstep.errors import InvalidRequest
from fewstep.files import check_new


def merge(
    model: Annotated[
        str,
        typer.Argument(help="A built-in name, a folder as diffusers writes it, a .safetensors file, or a hub id."),
    ],
    lora: Annotated[
        list[str], typer.Option(help="An adapter, and how much of it: style.safetensors:0.8; repeat for several.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new model's folder.")],
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16: the precision to save in.")] = "float16",
    config: Config = None,
    vae: Vae = None,
    kind: KindOption = None,
    prediction_type: PredictionType = None,
    zero_snr: ZeroSnr = None,
    unet: Unet = None,
    variant: Variant = None,
) -> None:
    """Add adapters into a model and save it as a folder: as fast as a model without any, and diffusers reads it.

    **Examples**

    fewstep merge ./my-sd15 --lora lcm-lora --lora ink.safetensors:0.8 -o ./my-fast-ink

    fewstep merge dreamshaper.safetensors --lora lcm-lora -o ./fast-dreamshaper
    """
    if not lora:
        raise InvalidRequest("nothing to merge: give at least one --lora")
    check_new(output)
    check_outputs([output], None)
    loading: LoadOptions = {
        "device": "cpu",
        "dtype": "float32",
        "config": config,
        "variant": variant,
        "kind": kind,
        "prediction_type": prediction_type,
        "zero_snr": zero_snr,
        "unet": unet,
        "loras": lora,
        "vae": vae,
    }
    check_beforehand(model, loading)
    from fewstep.models.adapters.lora.put_on import merged
    from fewstep.models.loading import load
    from fewstep.models.placement import choose_dtype
    from fewstep.models.saving import save

    with one_line_warnings():
        base = load(model, **loading)
    folder, result = base.origin.folder, merged(base, dtype=choose_dtype(dtype, base.device))
    del base  # the weights before the change
    card = dataclasses.replace(result.card, name=output.name)
    save(dataclasses.replace(result, card=card), output, base=folder, dtype=dtype)
    typer.echo(output)
