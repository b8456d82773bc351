"""How much memory the published models take, at their true sizes, with random weights, on the CPU.

python -m benchmarks.memory                           (writes benchmarks/results/memory.md; an hour on a small machine)
python -m benchmarks.memory --only sd15-unet-float32  (what begins so; the others stay as they were measured)

Weights are counted; what a part takes besides while it works is measured, each in a process of its own that has that
part alone. Resident memory is read from /proc (Linux), its peak anew for the work alone.
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
from typing import Annotated

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
WORK = {"text_encoder": "reading 77 tokens", "text_encoder_2": "reading 77 tokens", "unet": "a step", "vae": "decoding"}


@dataclass(frozen=True)
class Case:
    """A part of a model at work, on one picture of `side` x `side` pixels, or on two of them (guidance above 1)."""

    model: str
    part: str
    dtype: str
    side: int = 0
    rows: int = 1

    @property
    def name(self) -> str:
        picture = f"-{self.side}" if self.side else ""
        return f"{self.model}-{self.part}-{self.dtype}{picture}" + (f"x{self.rows}" if self.rows > 1 else "")


MODELS: dict[str, Architecture] = {"sd15": SD1, "sdxl": SDXL}
CASES = (
    Case("sd15", "text_encoder", "float32"),
    Case("sd15", "unet", "float32", 512),
    Case("sd15", "unet", "float32", 512, rows=2),
    Case("sd15", "vae", "float32", 512),
    Case("sd15", "unet", "bfloat16", 512),
    Case("sd15", "vae", "bfloat16", 512),
    Case("sdxl", "text_encoder_2", "float32"),
    Case("sdxl", "unet", "bfloat16", 1024),
    Case("sdxl", "unet", "float32", 1024),
    Case("sdxl", "vae", "float32", 1024),
)


@dataclass(frozen=True)
class Row:
    """Bytes of the part's weights, and how far resident memory rose while it worked; the seconds that that took."""

    weights: int
    on_top: int
    seconds: float


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names or how they begin; repeat for several.")] = None,
    inside: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, and write the table."""
    cases = {case.name: case for case in CASES}
    if inside is not None:
        typer.echo(json.dumps(asdict(measure(cases[inside]))))
        return
    path = RESULTS / "memory.json"
    for name in (name for name in cases if only is None or name.startswith(tuple(only))):
        command = [sys.executable, "-m", "benchmarks.memory", "--inside", name]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows = json.loads(path.read_text()) if path.is_file() else {}
        rows[name] = json.loads(run.stdout.splitlines()[-1])
        rows = {name: rows[name] for name in cases if name in rows}
        path.write_text(json.dumps(rows, indent=2) + "\n")
        (RESULTS / "memory.md").write_text(to_table({name: Row(**row) for name, row in rows.items()}))
        typer.echo(f"{name}: {rows[name]}")


def to_table(rows: dict[str, Row]) -> str:
    lines = [
        "# Memory at true sizes",
        "",
        f"`python -m benchmarks.memory`, random weights, torch {torch.__version__}. GiB. All was measured on a CPU; a",
        "GPU's will differ: other kernels, other scratch memory.",
        "",
        "| model | part | precision | its weights | work | on top of the weights |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        if (row := rows.get(case.name)) is not None:
            size = f" at {case.side}x{case.side}" if case.side else ""
            work = WORK[case.part] + size + (", with guidance" if case.rows > 1 else "")
            lines.append(
                f"| {MODELS[case.model].name} | {case.part} | {case.dtype} | {row.weights / GIB:.2f} | {work} "
                f"| {row.on_top / GIB:.2f} |"
            )
    lines += ["", "| model | weights of all parts, float32 | float16, bfloat16 |", "| --- | --- | --- |"]
    for architecture in MODELS.values():
        count = sum(p.numel() for part in architecture.parts for p in architecture.network(part).parameters())
        lines.append(f"| {architecture.name} | {4 * count / GIB:.2f} | {2 * count / GIB:.2f} |")
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def measure(case: Case) -> Row:
    """One case, in this process."""
    torch.set_flush_denormal(True)
    for library in LIBRARIES:
        import_module(library)
    dtype: torch.dtype = getattr(torch, case.dtype)
    network = randomised(MODELS[case.model].network(case.part), dtype)
    on_top, seconds = rise(work(case, network, dtype))
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return Row(weights, on_top, round(seconds, 1))


def work(case: Case, network: nn.Module, dtype: torch.dtype) -> Callable[[], object]:
    """What the part does for one picture."""
    latents = torch.randn(case.rows, 4, case.side // 8, case.side // 8).to(dtype)
    if case.part == "unet":
        width = MODELS[case.model].unet["cross_attention_dim"]
        states = torch.randn(case.rows, 77, width).to(dtype)
        sizes = torch.zeros(case.rows, 6).to(dtype)
        added = {"text_embeds": torch.randn(case.rows, 1280).to(dtype), "time_ids": sizes}
        t = torch.tensor([999])
        return lambda: network(latents, t, encoder_hidden_states=states, added_cond_kwargs=added)
    if case.part == "vae":
        return lambda: network.decode(latents)  # type: ignore[operator]
    ids = torch.randint(1000, 40_000, (1, 77))
    return lambda: network(ids, output_hidden_states=True)


def randomised(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network in main memory, every page of it written."""
    network = network.to(dtype).to_empty(device="cpu").eval()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.uniform_(-0.02, 0.02)
        else:
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))  # CLIP's positions
    return network


def rise(call: Callable[[], object]) -> tuple[int, float]:
    """How far resident memory rises during a call above what it was before, and the seconds that the call takes."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    started = time.perf_counter()
    call()
    return status("VmHWM") - before, time.perf_counter() - started


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    typer.run(main)
