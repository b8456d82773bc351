"""`fewstep doctor`: is everything installed, what is this machine worth, and what may be expected of it."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict, final

import typer

import fewstep
from fewstep.cli.options import default_model
from fewstep.errors import FewstepError

if TYPE_CHECKING:
    from rich.console import Console

    from fewstep.runtime.machine import Speed

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


class Machine(TypedDict):
    """What the networks run on; bytes, and FLOP/s."""

    device: str
    dtype: str
    devices: list[str]
    free_memory: int
    flops: float


@final
class Expected(TypedDict):
    """Seconds: of a step, of decoding, of pictures by their steps, and at least of published models."""

    name: str
    size: str
    step: float
    decoding: float
    pictures: dict[int, float]
    at_least: dict[str, float]


@final
class Refused(TypedDict):
    """Why a model cannot be timed."""

    name: str
    error: str


class Facts(TypedDict):
    """All that `--json` prints; the last two where nothing is missing."""

    fewstep: str
    python: str
    platform: str
    packages: dict[str, str]
    missing: list[str]
    missing_for_server: list[str]
    codecs: str
    browser: str | None
    machine: NotRequired[Machine]
    expected: NotRequired[Expected | Refused]


def doctor(
    model: Annotated[
        str | None, typer.Option(help="The model to time a step of. [default: $FEWSTEP_MODEL, or starter]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. [default: the best one here]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16, bfloat16. [default: by the device]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object; seconds, bytes, FLOP/s.")] = False,
) -> int | None:
    """Check the installation, measure this machine, and say what to expect.

    Exits with 1 when something is missing that fewstep needs.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    facts = _installed()
    _show_installed(console, facts)
    if not facts["missing"]:
        speed, machine = _machine(device, dtype)
        _show_machine(console, machine)
        name = model or default_model()
        expected: Expected | Refused
        try:
            expected = _expected(name, device, dtype, speed)
        except FewstepError as error:
            expected = {"name": name, "error": str(error)}
        _show_expected(console, expected)
        facts |= {"machine": machine, "expected": expected}
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    return 1 if facts["missing"] or "error" in facts["expected"] else None


def _installed() -> Facts:
    found = {name: _version(name) for name in (*NEEDED, *SERVING, "peft", "openvino")}
    return {
        "fewstep": fewstep.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: version for name, version in found.items() if version},
        "missing": [name for name in NEEDED if not found[name]],
        "missing_for_server": [name for name in SERVING if not found[name]],
        "codecs": _codecs(),
        "browser": next(filter(shutil.which, BROWSERS), None),
    }


def _show_installed(console: Console, facts: Facts) -> None:
    there, absent = facts["packages"], facts["missing_for_server"]
    console.print(f"[bold]Installed[/]  Python {facts['python']}, {facts['platform']}")
    console.print("  " + ", ".join(f"{name} {there[name]}" for name in NEEDED if name in there))
    state = f"without {', '.join(absent)}; pip install 'fewstep[serve]'" if absent else "complete"
    console.print(f"  the server: {state}", markup=False)
    console.print(f"  training: {'complete' if 'peft' in there else PEFT_MISSING}", markup=False)
    console.print(f"  OpenVINO: {there.get('openvino', OPENVINO_MISSING)}", markup=False)
    console.print(f"  pictures: {facts['codecs']}")
    console.print(f"  a browser for the live page: {facts['browser'] or 'none on the PATH'}")
    if facts["missing"]:
        console.print(f"missing: {', '.join(facts['missing'])}; install fewstep again: pip install -e . in its folder")


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


def _machine(wanted: str | None, precision: str | None) -> tuple[Speed, Machine]:
    from fewstep.models.memory import free_memory
    from fewstep.models.placement import choose_device, choose_dtype, devices_here
    from fewstep.runtime.machine import described, matrix_speed

    device = choose_device(wanted)
    speed = matrix_speed(device, choose_dtype(precision, device))
    return speed, {
        "device": speed.device,
        "dtype": speed.dtype,
        "devices": [described(each) for each in devices_here()],
        "free_memory": free_memory(device),
        "flops": speed.flops,
    }


def _show_machine(console: Console, machine: Machine) -> None:
    console.print(f"\n[bold]This machine[/]  {machine['device']}, {machine['dtype']}")
    console.print(f"  devices: {', '.join(machine['devices'])}", markup=False)
    console.print(f"  free memory: {machine['free_memory'] / 2**30:.1f} GiB")
    console.print(f"  matrix products: {machine['flops'] / 1e9:,.0f} GFLOP/s")


def _expected(name: str, device: str | None, dtype: str | None, speed: Speed) -> Expected:
    """Seconds, measured of a model, and at least to be expected of the published ones; raises as `load` does."""
    from fewstep.models.families.sd import SD1
    from fewstep.models.families.sdxl import SDXL
    from fewstep.models.loading import load
    from fewstep.runtime.machine import operations, step_seconds

    model = load(name, device=device, dtype=dtype)
    step, decode = step_seconds(model)
    height, width = model.traits.default_size
    calls = 1 if model.profile.guidance.embedded or model.profile.guidance.scale == 1.0 else 2
    least = {}
    for family, side in ((SD1, 512), (SDXL, 1024)):
        one, last = operations(family, side)
        least[f"{family.name}, 4 steps at {side}x{side}"] = speed.seconds(4 * one + last)
    return {
        "name": model.name,
        "size": f"{width}x{height}",
        "step": calls * step,
        "decoding": decode,
        "pictures": {steps: steps * calls * step + decode for steps in sorted({1, 2, 4, model.profile.steps})},
        "at_least": least,
    }


def _show_expected(console: Console, expected: Expected | Refused) -> None:
    console.print("\n[bold]What to expect[/]")
    if "error" in expected:
        console.print(f"  {expected['name']}: {expected['error']}", markup=False)
        return
    step, decoding = _span(expected["step"]), _span(expected["decoding"])
    console.print(f"  {expected['name']} at {expected['size']}: a step {step}, decoding {decoding} (measured)")
    for steps, total in expected["pictures"].items():
        counted = "1 step" if steps == 1 else f"{steps} steps"
        console.print(f"    {counted}: about {_span(total)}, {1 / total:.1f} pictures a second")
    for what, least in expected["at_least"].items():
        console.print(f"  {what}: {_span(least)} or more, from the speed above")


def _span(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else f"{seconds:.1f} s"
