"""`fewstep serve`: the live page, the live protocol, and the APIs that other programs speak."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.cli.beforehand import check_beforehand
from fewstep.cli.options import LoadOptions, decoder, default_model
from fewstep.cli.progress import one_line_warnings
from fewstep.cli.runtime import Runtime, run_by, with_openvino
from fewstep.cli.serve_options import HOW, WHO, Door, First, Models, Work
from fewstep.cli.spread import spread
from fewstep.cli.steering import read_controls
from fewstep.errors import CannotWrite, InvalidRequest, NotInstalled
from fewstep.files import cache_folder

if TYPE_CHECKING:
    from fewstep.server.engine import Checker


@spread
def serve(
    *,
    models: Models,
    door: Door,
    work: Work,
    own: First,
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
    from fewstep.models.folder import brings_fast_decoder
    from fewstep.models.precisions import FAST

    access, check = Access.of(door.host, door.token, door.origin or ()), _function(checker)
    proxy = Proxy.of(door.root_path, door.trust_proxy or ())
    if work.steps is not None and work.steps < 1:
        raise InvalidRequest(f"the number of steps is {work.steps}; it must be at least 1")
    first, *rest = models.model or _default_models()
    nets, steered = read_controls(own.control or [], need_pictures=False)

    def decoder_of(name: str) -> str | None:
        fast = own.fast_decode or (own.fast_decode is None and brings_fast_decoder(name))
        return FAST if fast else None

    def of_another(name: str) -> LoadOptions:
        return {**placing, "vae": decoder_of(name)}

    placing: LoadOptions = {"device": own.device, "dtype": own.dtype, "memory": own.memory}
    loading: LoadOptions = {
        **placing,
        "config": own.config,
        "variant": own.variant,
        "kind": own.kind,
        "prediction_type": own.prediction_type,
        "zero_snr": own.zero_snr,
        "unet": own.unet,
        "loras": models.lora or (),
        "embeddings": own.embedding or (),
        "controlnets": nets,
        "vae": decoder(own.vae, own.fast_decode) or decoder_of(first),
    }
    check_beforehand(first, loading)
    for name in rest:
        check_beforehand(name, placing)
    with _listen(door.host, door.port) as listening, one_line_warnings(quiet):  # who comes while the models load waits
        bundle = fewstep.load(first, **loading)
        if work.steps is not None:
            bundle = dataclasses.replace(bundle, profile=dataclasses.replace(bundle.profile, steps=work.steps))
        others = [fewstep.load(name, **of_another(name)) for name in rest]
        bundle, *others = (run_by(runtime, each) for each in (bundle, *others))
        engine = Engine(
            bundle,
            *others,
            max_batch=work.max_batch,
            max_clients=door.max_sessions,
            max_pixels=work.max_pixels,
            checker=check,
            controls=steered,
        )
        certificate, key = self_signed(cache_folder(), door.host) if door.https else (None, None)
        app = create_app(engine, access, proxy=proxy, metrics=metrics, per_address=door.max_per_address)
        server = Server(engine, app, host=door.host, port=door.port, ssl_certfile=certificate, ssl_keyfile=key)
        scheme = "https" if door.https else "http"
        shown = f"{scheme}://{door.host}:{listening.getsockname()[1]}/"
        typer.echo(shown + (f"?token={door.token}" if door.token else ""))
        typer.echo(f"painting with {bundle.name} on {bundle.device}{with_openvino(bundle)}; Ctrl-C ends it", err=True)
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


def _function(name: str | None) -> Checker | None:
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
