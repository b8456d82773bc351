"""How much memory the published models take, at their true sizes, with random weights, on the CPU.

python -m benchmarks.memory                        (writes benchmarks/results/memory.md; hours on a small machine)
python -m benchmarks.memory --only sd15-float32    (one row; the others stay as they were measured)

Every row has a process of its own. Resident memory is read from /proc (Linux), its peak anew for every phase.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from fewstep.models.architectures import SD1, SDXL, Architecture

RESULTS = Path(__file__).parent / "results"
GIB = 2**30
LIBRARIES = (
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
)


@dataclass(frozen=True)
class Case:
    """A model, a precision, and the sides of a picture for a step of the U-Net and for decoding, in pixels."""

    architecture: Architecture
    dtype: torch.dtype
    step: int
    decode: int


CASES = {
    "sd15-float32": Case(SD1, torch.float32, 512, 512),
    "sd15-bfloat16": Case(SD1, torch.bfloat16, 512, 512),
    "sdxl-bfloat16": Case(SDXL, torch.bfloat16, 1024, 512),
}


@dataclass(frozen=True)
class Row:
    """Bytes: of the weights, and resident at the peak of loading, reading 77 tokens, one step, decoding one picture;
    `base` is what Python and the libraries take before.
    """

    name: str
    step_side: int
    decode_side: int
    weights: int
    base: int
    loaded: int
    reading: int
    step: int
    decoding: int
    step_seconds: float


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(CASES)}; repeat for several.")] = None,
    inside: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, and write the table."""
    if inside is not None:
        typer.echo(json.dumps(asdict(measure(inside))))
        return
    path = RESULTS / "memory.json"
    rows = json.loads(path.read_text()) if path.is_file() else {}
    for name in only or CASES:
        command = [sys.executable, "-m", "benchmarks.memory", "--inside", name]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        rows[name] = json.loads(run.stdout.splitlines()[-1])
    rows = {name: rows[name] for name in CASES if name in rows}
    path.write_text(json.dumps(rows, indent=2) + "\n")
    table = to_table([Row(**row) for row in rows.values()])
    (RESULTS / "memory.md").write_text(table)
    typer.echo(table)


def to_table(rows: list[Row]) -> str:
    lines = [
        "# Memory at true sizes",
        "",
        f"`python -m benchmarks.memory`, random weights, on the CPU, torch {torch.__version__}, one picture. Resident",
        "memory in GiB without what Python and its libraries take; peaks, weights included. A GPU's will differ: other",
        "kernels, other scratch memory.",
        "",
        "| model | weights | loaded, at most | reading 77 tokens | one step | decoding |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        sizes = [f"{(value - row.base) / GIB:.2f}" for value in (row.loaded, row.reading, row.step, row.decoding)]
        lines.append(
            f"| {row.name} | {row.weights / GIB:.2f} | {sizes[0]} | {sizes[1]} | {sizes[2]} ({row.step_side}²) "
            f"| {sizes[3]} ({row.decode_side}²) |"
        )
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def measure(name: str) -> Row:
    """One case, in this process."""
    case = CASES[name]
    for library in LIBRARIES:  # before `base` is read
        import_module(library)
    base = resident()
    parts: dict[str, Any] = {}

    def load() -> None:
        for part in case.architecture.parts:
            parts[part] = randomised(case.architecture.network(part), case.dtype)

    loaded, _ = peak(load)
    ids = torch.randint(1000, 40_000, (1, 77))
    readers = [part for part in parts if part.startswith("text_encoder")]
    reading, _ = peak(lambda: [parts[part](ids, output_hidden_states=True) for part in readers])
    width = case.architecture.unet["cross_attention_dim"]
    x = torch.randn(1, 4, case.step // 8, case.step // 8).to(case.dtype)
    states = torch.randn(1, 77, width).to(case.dtype)
    added = {"text_embeds": torch.randn(1, 1280).to(case.dtype), "time_ids": torch.zeros(1, 6).to(case.dtype)}
    step, seconds = peak(
        lambda: parts["unet"](x, torch.tensor([999]), encoder_hidden_states=states, added_cond_kwargs=added)
    )
    latents = torch.randn(1, 4, case.decode // 8, case.decode // 8).to(case.dtype)
    decoding, _ = peak(lambda: parts["vae"].decode(latents))
    weights = sum(p.numel() * p.element_size() for part in parts.values() for p in part.parameters())
    return Row(name, case.step, case.decode, weights, base, loaded, reading, step, decoding, seconds)


def randomised(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network in main memory, every page of it written."""
    network = network.to(dtype).to_empty(device="cpu").eval()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.uniform_(-0.02, 0.02)
        else:
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))  # CLIP's positions
    return network


def peak(call: Callable[[], object]) -> tuple[int, float]:
    """The most that is resident during a call, and the seconds that it takes."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    started = time.perf_counter()
    call()
    return status("VmHWM"), time.perf_counter() - started


def resident() -> int:
    return status("VmRSS")


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    typer.run(main)
