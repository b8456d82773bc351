"""`fewstep serve`: the live page, the live protocol, and the APIs that other programs speak."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.options import Embedding, Unet, Variant, ZeroSnr, decoder, default_model
from fewstep.cli.progress import one_line_warnings
from fewstep.cli.runtime import Runtime, run_by, told
from fewstep.cli.steering import read_controls
from fewstep.errors import CannotWrite, InvalidRequest, NotInstalled
from fewstep.files import cache_folder

WHO = "Who may come in"
HOW = "How it paints"


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="starter, starter-teacher, a folder as diffusers writes it, a .safetensors checkpoint, or a hub id; "
            "repeat to offer several, the default first. [default: $FEWSTEP_MODEL, or starter and its teacher]",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="An adapter on top of the first model, and how much of it where nobody says: style.safetensors:0.8, "
            "a hub id, or lcm-lora; repeat for several.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; all others than this machine need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="FEWSTEP_TOKEN", help="What every client has to show.", rich_help_panel=WHO, show_default=False
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A page from elsewhere that may use this server, https://example.org; repeat for several.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            help="The path under which a reverse proxy shows this server, /lcm for example.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None,
    trust_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="The address (or network, 10.0.0.0/8) of a reverse proxy whose X-Forwarded-Prefix, -Host, -Proto and "
            "-For are believed; repeat for several.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None,
    https: Annotated[
        bool,
        typer.Option(
            "--https",
            help="Serve over HTTPS with a certificate made here: other machines' cameras need that.",
            rich_help_panel=WHO,
        ),
    ] = False,
    max_sessions: Annotated[int, typer.Option(help="Clients at once.", min=1, rich_help_panel=WHO)] = 256,
    max_per_address: Annotated[
        int, typer.Option(help="Live and realtime sessions of one other machine at once.", min=1, rich_help_panel=WHO)
    ] = 16,
    max_batch: Annotated[int, typer.Option(help="Pictures in the making at once.", min=1, rich_help_panel=HOW)] = 16,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Of one picture. [default: 64 times the model's own size, at most 2048 x 2048]",
            min=64,
            rich_help_panel=HOW,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps where nobody asks for a number. [default: the model's]", rich_help_panel=HOW),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="What pictures steer the first model through: NET, where clients bring the pictures, or "
            "NET=edges.png:0.8 for clients that bring none; repeat for several.",
            show_default=False,
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(
            help="Another autoencoder for the first model: a folder or a hub id.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    fast_decode: Annotated[
        bool | None,
        typer.Option(
            "--fast-decode/--full-decode",
            help="Decode much faster and a little rougher, with the model's own fast decoder or TAESD. "
            "[default: fast for models that bring their own, as the starter does]",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]", rich_help_panel=HOW)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, bfloat16. [default: by the device]", rich_help_panel=HOW)
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            help="Where the device's memory is short: full (all on it), parts (in turns), layers (slow), or auto.",
            rich_help_panel=HOW,
        ),
    ] = "auto",
    config: Annotated[
        Path | None,
        typer.Option(
            help="For a single-file first model of unusual shape: a model folder with its configs and tokenizers.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="lcm or diffusion, where the first model's files say it wrongly. [default: detected]",
            rich_help_panel=HOW,
        ),
    ] = None,
    prediction_type: Annotated[
        str | None,
        typer.Option(help="epsilon, v_prediction or sample, likewise. [default: detected]", rich_help_panel=HOW),
    ] = None,
    zero_snr: ZeroSnr = None,
    unet: Unet = None,
    embedding: Embedding = None,
    variant: Variant = None,
    runtime: Annotated[
        Runtime,
        typer.Option(
            help="What runs the networks on a CPU: openvino (pip install 'fewstep[openvino]'), pytorch, or auto, "
            "OpenVINO where it is installed and can.",
            rich_help_panel=HOW,
        ),
    ] = Runtime.AUTO,
    checker: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION that is shown every picture (PIL) before it leaves; False withholds it.",
            rich_help_panel=WHO,
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[bool, typer.Option(help="Prometheus counters at /metrics.", rich_help_panel=HOW)] = True,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No advice here; clients hear it.", rich_help_panel=HOW)
    ] = False,
) -> int | None:
    """Serve pictures live: type, slide, draw, and the picture follows.

    Opens a page at http://127.0.0.1:7860 and, on the same port, the APIs of OpenAI's Images, AUTOMATIC1111 and fal.
    """
    try:
        from fewstep.server.app import create_app
        from fewstep.server.certificate import self_signed
        from fewstep.server.engine import Engine
        from fewstep.server.process import Server
        from fewstep.server.proxy import Proxy
        from fewstep.server.security import Access
    except ModuleNotFoundError as error:
        raise NotInstalled(f"{error.name} is missing; install the server with: pip install 'fewstep[serve]'") from error
    import fewstep
    from fewstep.models.locating import brings_fast_decoder
    from fewstep.models.replaced import FAST

    access, check = Access.of(host, token, origin or ()), _function(checker)
    proxy = Proxy.of(root_path, trust_proxy or ())
    if steps is not None and steps < 1:
        raise InvalidRequest(f"the number of steps is {steps}; it must be at least 1")
    first, *rest = model or _default_models()
    vae = decoder(vae, fast_decode)
    nets, steered = read_controls(control or [], need_pictures=False)

    def decoder_of(name: str) -> str | None:
        return FAST if fast_decode or (fast_decode is None and brings_fast_decoder(name)) else None

    placing: dict[str, Any] = {"device": device, "dtype": dtype, "memory": memory}
    own: dict[str, Any] = {"loras": lora or (), "vae": vae or decoder_of(first), "config": config, **placing}
    own |= {"kind": kind, "prediction_type": prediction_type, "controlnets": nets}
    own |= {"zero_snr": zero_snr, "unet": unet, "embeddings": embedding or (), "variant": variant}
    check_beforehand(first, own)
    for name in rest:
        check_beforehand(name, placing)
    with _listen(host, port) as listening, one_line_warnings(quiet):  # who comes while the models load waits
        bundle = fewstep.load(first, **own)
        if steps is not None:
            bundle = dataclasses.replace(bundle, profile=dataclasses.replace(bundle.profile, steps=steps))
        others = [fewstep.load(name, vae=decoder_of(name), **placing) for name in rest]
        bundle, *others = (run_by(runtime, each) for each in (bundle, *others))
        engine = Engine(
            bundle,
            *others,
            max_batch=max_batch,
            max_clients=max_sessions,
            max_pixels=max_pixels,
            checker=check,
            controls=steered,
        )
        certificate, key = self_signed(cache_folder(), host) if https else (None, None)
        app = create_app(engine, access, proxy=proxy, metrics=metrics, per_address=max_per_address)
        server = Server(engine, app, host=host, port=port, ssl_certfile=certificate, ssl_keyfile=key)
        scheme = "https" if https else "http"
        shown = f"{scheme}://{host}:{listening.getsockname()[1]}/"
        typer.echo(shown + (f"?token={token}" if token else ""))
        typer.echo(f"painting with {bundle.name} on {bundle.device}{told(bundle)}; Ctrl-C ends it", err=True)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # all is over; Python's own end would take seconds, or abort in a network's call
            typer.echo("interrupted", err=True)
            sys.stdout.flush()
            os._exit(128 + signal.SIGINT)
    return None


def _default_models() -> tuple[str, ...]:
    name = default_model()
    return (name, "starter-teacher") if name == "starter" else (name,)


def _listen(host: str, port: int) -> socket.socket:
    """A socket at that address; raises `CannotWrite` where there is none to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise CannotWrite(
            f"cannot listen on {host}:{port}: {error.strerror}; another port? --port 0 finds one"
        ) from error


def _function(name: str | None) -> Any:
    """What MODULE:FUNCTION names; raises `InvalidRequest`."""
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidRequest(f"the checker {name!r} cannot be used: {error}; give MODULE:FUNCTION") from error
    if not callable(found):
        raise InvalidRequest(f"the checker {name!r} is a {type(found).__name__} and no function")
    return found
