"""The options of `fewstep serve`, as the records that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fewstep.cli.options import Embedding, Unet, Variant, ZeroSnr

WHO = "Who may come in"
HOW = "How it paints"


@dataclass(frozen=True)
class Models:
    """What is served."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            help="starter, starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id; "
            "repeat to offer several, the default first. [default: $FEWSTEP_MODEL, or starter and its teacher]",
            show_default=False,
        ),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="An adapter on top of the first model, and how much of it where nobody says: style.safetensors:0.8, "
            "a hub id, or lcm-lora; repeat for several.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class Door:
    """Where the server listens, and who may come in."""

    host: Annotated[str, typer.Option(help="The address to listen on; all others than this machine need a token.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 7860
    token: Annotated[
        str | None,
        typer.Option(
            envvar="FEWSTEP_TOKEN", help="What every client has to show.", rich_help_panel=WHO, show_default=False
        ),
    ] = None
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A page from elsewhere that may use this server, https://example.org; repeat for several.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None
    root_path: Annotated[
        str | None,
        typer.Option(
            help="The path under which a reverse proxy shows this server, /lcm for example.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None
    trust_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="The address (or network, 10.0.0.0/8) of a reverse proxy whose X-Forwarded-Prefix, -Host, -Proto and "
            "-For are believed; repeat for several.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None
    https: Annotated[
        bool,
        typer.Option(
            "--https",
            help="Serve over HTTPS with a certificate made here: other machines' cameras need that.",
            rich_help_panel=WHO,
        ),
    ] = False
    max_sessions: Annotated[int, typer.Option(help="Clients at once.", min=1, rich_help_panel=WHO)] = 256
    max_per_address: Annotated[
        int, typer.Option(help="Live and realtime sessions of one other machine at once.", min=1, rich_help_panel=WHO)
    ] = 16


@dataclass(frozen=True)
class Work:
    """How much at once."""

    max_batch: Annotated[int, typer.Option(help="Pictures in the making at once.", min=1, rich_help_panel=HOW)] = 16
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Of one picture. [default: 64 times the model's own size, at most 2048 x 2048]",
            min=64,
            rich_help_panel=HOW,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(help="Steps where nobody asks for a number. [default: the model's]", rich_help_panel=HOW),
    ] = None


@dataclass(frozen=True)
class First:
    """How the first model is loaded; device, dtype and memory are those of all."""

    control: Annotated[
        list[str] | None,
        typer.Option(
            help="What pictures steer the first model through: NET, where clients bring the pictures, or "
            "NET=edges.png:0.8 for clients that bring none; repeat for several.",
            show_default=False,
        ),
    ] = None
    vae: Annotated[
        str | None,
        typer.Option(
            help="Another autoencoder for the first model: a folder or a hub id.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None
    fast_decode: Annotated[
        bool | None,
        typer.Option(
            "--fast-decode/--full-decode",
            help="Decode much faster and a little rougher, with the model's own fast decoder or TAESD. "
            "[default: fast for models that bring their own, as the starter does]",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]", rich_help_panel=HOW)
    ] = None
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16. [default: by the device]", rich_help_panel=HOW)
    ] = None
    memory: Annotated[
        str,
        typer.Option(
            help="Where the device's memory is short: full (all on it), parts (in turns), layers (slow), or auto.",
            rich_help_panel=HOW,
        ),
    ] = "auto"
    config: Annotated[
        Path | None,
        typer.Option(
            help="For a single-file first model of unusual shape: a model folder with its configs and tokenizers.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None
    kind: Annotated[
        str | None,
        typer.Option(
            help="lcm or diffusion, where the first model's files say it wrongly. [default: detected]",
            rich_help_panel=HOW,
        ),
    ] = None
    prediction_type: Annotated[
        str | None,
        typer.Option(help="epsilon, v_prediction or sample, likewise. [default: detected]", rich_help_panel=HOW),
    ] = None
    zero_snr: ZeroSnr = None
    unet: Unet = None
    embedding: Embedding = None
    variant: Variant = None
