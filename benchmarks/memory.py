"""How much memory the published models take, at their true sizes, on top of their weights.

python -m benchmarks.memory                      (writes benchmarks/results/memory.md; an hour on a small machine)
python -m benchmarks.memory --only sd15-unet     (what begins so; the others stay as they were)

Two numbers for each part of a model at work, in float32. Counted: the most that lives in tensors at once, on any
device (from the shapes alone, nothing is computed). Measured: how far resident memory rises on this CPU, with random
weights, in a process of its own that has that part alone: the scratch memory of the CPU's kernels is in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks import report
from fewstep.models.families.sd import SD1
from fewstep.models.families.sdxl import SDXL
from fewstep.models.families.unet import UNetFamily

GIB = 2**30
LIBRARIES = (
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
)
WORK = {"text_encoder": "reading 77 tokens", "text_encoder_2": "reading 77 tokens", "unet": "a step", "vae": "decoding"}


@dataclass(frozen=True)
class Case:
    """A part of a model at work, on `rows` pictures of `side` x `side` pixels."""

    model: str
    part: str
    side: int = 0
    rows: int = 1
    measured: bool = True

    @property
    def name(self) -> str:
        picture = f"-{self.side}" if self.side else ""
        return f"{self.model}-{self.part}{picture}" + (f"x{self.rows}" if self.rows > 1 else "")

    @property
    def work(self) -> str:
        size = f" at {self.side}x{self.side}" if self.side else ""
        return WORK[self.part] + size + (", two pictures" if self.rows > 1 else "")


MODELS: dict[str, UNetFamily] = {"sd15": SD1, "sdxl": SDXL}
CASES = (
    Case("sd15", "text_encoder"),
    Case("sd15", "unet", 512),
    Case("sd15", "unet", 512, rows=2),
    Case("sd15", "unet", 768, measured=False),
    Case("sd15", "vae", 512),
    Case("sd15", "vae", 768, measured=False),
    Case("sdxl", "text_encoder_2"),
    Case("sdxl", "unet", 512),
    Case("sdxl", "unet", 1024, measured=False),
    Case("sdxl", "unet", 1024, rows=2, measured=False),
    Case("sdxl", "vae", 512, measured=False),
    Case("sdxl", "vae", 1024, measured=False),
)


@dataclass(frozen=True)
class Row:
    """Bytes in float32: of the part's weights, and on top of them counted, and measured; the seconds that that took."""

    weights: int
    counted: int
    measured: int | None = None
    seconds: float | None = None


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names or how they begin; repeat for several.")] = None,
    inside: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Count and measure, and write the table."""
    cases = {case.name: case for case in CASES}
    if inside is not None:
        typer.echo(json.dumps(asdict(row_of(cases[inside]))))
        return
    path = report.RESULTS / "memory.json"
    for name in (name for name in cases if only is None or name.startswith(tuple(only))):
        command = [sys.executable, "-m", "benchmarks.memory", "--inside", name]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows = json.loads(path.read_text())["rows"] if path.is_file() else {}
        rows[name] = json.loads(run.stdout.splitlines()[-1])
        rows = {name: rows[name] for name in cases if name in rows}
        table = to_table({name: Row(**row) for name, row in rows.items()})
        line = report.command("memory", only=only)
        report.write("memory", line, values={"rows": rows}, title="Memory at true sizes", text=table)
        typer.echo(f"{name}: {rows[name]}")


def to_table(rows: Mapping[str, Row]) -> str:
    lines = [
        "GiB in float32; tensors of float16 and bfloat16 take half. On top of the weights: counted, the most that",
        "lives in tensors at once, on any device; measured, how far resident memory rose on a CPU, the scratch memory",
        "of its kernels included. With `--only`, the other rows are from earlier runs.",
        "",
        "| model | part | its weights | work | on top, counted | measured on a CPU |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        if (row := rows.get(case.name)) is not None:
            measured = "" if row.measured is None else f"{row.measured / GIB:.2f}"
            lines.append(
                f"| {MODELS[case.model].name} | {case.part} | {row.weights / GIB:.2f} | {case.work} "
                f"| {row.counted / GIB:.2f} | {measured} |"
            )
    lines += ["", "| model | weights of all parts, float32 | float16, bfloat16 |", "| --- | --- | --- |"]
    for family in MODELS.values():
        count = sum(p.numel() for part in family.networks for p in family.blank(part).parameters())
        lines.append(f"| {family.name} | {4 * count / GIB:.2f} | {2 * count / GIB:.2f} |")
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def row_of(case: Case) -> Row:
    """One case, in this process."""
    torch.set_flush_denormal(True)
    for library in LIBRARIES:
        import_module(library)
    network = Part(MODELS[case.model].blank(case.part)).eval()
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    counted = count(network, case)
    if not case.measured:
        return Row(weights, counted)
    measured, seconds = rise(partial(randomised(network), **inputs(case)))
    return Row(weights, counted, measured, round(seconds, 1))


class Part(nn.Module):
    """A network whose call is its work: an autoencoder's is to decode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: Any) -> object:
        work = self.network.decode if hasattr(self.network, "decode") else self.network
        return work(**inputs)  # type: ignore[operator]


def inputs(case: Case) -> dict[str, Any]:
    """What the part works on."""
    latents = torch.randn(case.rows, 4, case.side // 8, case.side // 8)
    if case.part == "vae":
        return {"z": latents}
    if case.part != "unet":
        return {"input_ids": torch.randint(1000, 40_000, (1, 77)), "output_hidden_states": True}
    width = MODELS[case.model].text_width
    added = {"text_embeds": torch.randn(case.rows, 1280), "time_ids": torch.zeros(case.rows, 6)}
    states = torch.randn(case.rows, 77, width)
    return {
        "sample": latents,
        "timestep": torch.tensor([999]),
        "encoder_hidden_states": states,
        "added_cond_kwargs": added,
    }


class Living(TorchDispatchMode):
    """Bytes of the tensors that operations make: those that live now, and the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = WeakIdKeyDictionary()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                self._seen[storage] = size = storage.nbytes()
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._die, size)
        return result

    def _die(self, size: int) -> None:
        self.now -= size


def count(network: nn.Module, case: Case) -> int:
    """The most that lives in tensors at once while a part works, without its weights; from the shapes alone."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = {name: torch.empty(x.shape, dtype=x.dtype) for name, x in network.state_dict(keep_vars=True).items()}
        weights |= {name: torch.empty(x.shape, dtype=x.dtype) for name, x in network.named_buffers()}
        given = inputs(case)
        with Living() as living:
            torch.func.functional_call(network, weights, (), given)
    return living.peak


def randomised(network: nn.Module) -> nn.Module:
    """The network in main memory, every page of it written."""
    network = network.to_empty(device="cpu")
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
