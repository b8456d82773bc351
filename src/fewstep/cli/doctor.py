"""`fewstep doctor`: is everything installed, what is this machine worth, and what may be expected of it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import typer

from fewstep.errors import FewstepError

if TYPE_CHECKING:
    from rich.console import Console

    from fewstep.models.bundle import ModelBundle

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "pillow")
SERVING = (
    "fastapi",
    "uvicorn",
    "websockets",
    "greenlet",
    "msgpack",
    "python-multipart",
    "prometheus-client",
    "simplejpeg",
    "cryptography",
)
PEFT_MISSING = "without peft, which trains LoRAs; pip install 'fewstep[train]'"
OPENVINO_MISSING = "without; pip install 'fewstep[openvino]' runs networks on Intel's runtime"
CODECS = {"jpg": "JPEG", "webp": "WebP", "zlib": "PNG"}  # Pillow's names, and ours
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox", "microsoft-edge", "open")


def doctor(
    model: Annotated[str, typer.Option(help="The model to time a step of.")] = "starter",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16, bfloat16. [default: by the device]")] = None,
) -> int | None:
    """Check the installation, measure this machine, and say what to expect.

    Exits with 1 when something is missing that fewstep needs.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    missing = _check_packages(console)
    if missing:
        console.print(f"missing: {', '.join(missing)}; install again: pip install --force-reinstall fewstep")
        return 1
    return _check_machine(console, model, device, dtype)


def _check_packages(console: Console) -> list[str]:
    console.print(f"[bold]Installed[/]  Python {platform.python_version()}, {platform.platform(terse=True)}")
    found = {name: _version(name) for name in (*NEEDED, *SERVING)}
    console.print("  " + ", ".join(f"{name} {found[name]}" for name in NEEDED if found[name]))
    absent = [name for name in SERVING if not found[name]]
    state = f"without {', '.join(absent)}; pip install 'fewstep[serve]'" if absent else "complete"
    console.print(f"  the server: {state}", markup=False)
    console.print(f"  training: {'complete' if _version('peft') else PEFT_MISSING}", markup=False)
    console.print(f"  OpenVINO: {_version('openvino') or OPENVINO_MISSING}", markup=False)
    console.print(f"  pictures: {_codecs()}")
    browser = next(filter(shutil.which, BROWSERS), None)
    console.print(f"  a browser for the live page: {browser or 'none on the PATH'}")
    return [name for name in NEEDED if not found[name]]


def _codecs() -> str:
    from PIL import features

    there = [name for codec, name in CODECS.items() if features.check(codec)]
    absent = [name for name in CODECS.values() if name not in there]
    return ", ".join(there) + (f"; not {', '.join(absent)}: install pillow again" if absent else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_machine(console: Console, name: str, wanted: str | None, precision: str | None) -> int | None:
    from fewstep.models.architectures import SD1, SDXL
    from fewstep.models.loading import load
    from fewstep.models.memory import free_memory
    from fewstep.models.placement import choose_device, choose_dtype, devices_here
    from fewstep.runtime.machine import described, matrix_speed, operations

    device = choose_device(wanted)
    dtype = choose_dtype(precision, device)
    speed = matrix_speed(device, dtype)
    console.print(f"\n[bold]This machine[/]  {speed.device}, {speed.dtype}")
    console.print(f"  devices: {', '.join(map(described, devices_here()))}", markup=False)
    console.print(f"  free memory: {free_memory(device) / 2**30:.1f} GiB")
    console.print(f"  matrix products: {speed.flops / 1e9:,.0f} GFLOP/s")
    console.print("\n[bold]What to expect[/]")
    try:
        model = load(name, device=device, dtype=dtype)
    except FewstepError as error:
        console.print(f"  {name}: {error}")
        return 1
    for line in _measured(model):
        console.print(line)
    for architecture, side in ((SD1, 512), (SDXL, 1024)):
        step, decode = operations(architecture, side)
        least = speed.seconds(4 * step + decode)
        console.print(f"  {architecture.name}, 4 steps at {side}x{side}: {_span(least)} or more, from the speed above")
    return None


def _measured(model: ModelBundle) -> Iterator[str]:
    from fewstep.runtime.machine import step_seconds

    step, decode = step_seconds(model)
    height, width = model.default_size
    calls = 1 if model.embeds_guidance or model.card.guidance_scale == 1.0 else 2
    yield f"  {model.name} at {width}x{height}: a step {_span(calls * step)}, decoding {_span(decode)} (measured)"
    for steps in sorted({1, 2, 4, model.card.steps}):
        total = steps * calls * step + decode
        counted = "1 step" if steps == 1 else f"{steps} steps"
        yield f"    {counted}: about {_span(total)}, {1 / total:.1f} pictures a second"


def _span(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else f"{seconds:.1f} s"
