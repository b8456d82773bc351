"""`python -m benchmarks.gpu --output DIR [--device cuda|cpu] [--tiny] [--budget SECONDS] [STAGE …]`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.gpu.packages import ROOT, unpack_missing
from benchmarks.gpu.runner import RESULTS, Asked, Runner
from benchmarks.gpu.stages import BUDGET, STAGES

ORIGIN = "import json; from benchmarks.gpu.origin import origin; print(json.dumps(origin({command!r}, {commit!r})))"
NAMES = ", ".join(stage.name for stage in STAGES)


def main(
    stages: Annotated[list[str] | None, typer.Argument(help=f"Of {NAMES}, in their order. [default: all]")] = None,
    output: Annotated[Path, typer.Option(help="For results.json and log.txt.")] = Path("build/gpu"),
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    tiny: Annotated[bool, typer.Option(help="A dry run: the smallest sizes, and few repetitions.")] = False,
    budget: Annotated[float, typer.Option(help="Seconds for all stages together.")] = BUDGET,
    wheels: Annotated[Path, typer.Option(help="What is not installed is imported from these.")] = Path(".wheels"),
    commit: Annotated[str, typer.Option(help="Of this tree, where no .git says it.")] = "",
    only_listed: Annotated[bool, typer.Option(help="Import nothing but what packages.py lists.")] = False,
) -> None:
    """Run the stages and write what they find."""
    if unknown := set(stages or ()) - {stage.name for stage in STAGES}:
        raise typer.BadParameter(f"no stage is called {', '.join(sorted(unknown))}; there are {NAMES}")
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"the device is {device!r}; it must be cuda or cpu")
    chosen = [stage for stage in STAGES if not stages or stage.name in stages]
    with tempfile.TemporaryDirectory() as sites:
        unpacked = unpack_missing(wheels, Path(sites))
        asked = Asked(device, tiny, only_listed, Path(sites) if unpacked else None)
        origin = _origin(asked, commit) | {"from_wheels": unpacked}
        Runner(asked, output.absolute(), budget, origin).run(chosen)
    typer.echo(f"{output / RESULTS} holds the results")


def _origin(asked: Asked, commit: str) -> dict[str, Any]:
    """Of a process of its own: this one stays free of what may not even import."""
    code = ORIGIN.format(command=" ".join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]), commit=commit)
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=asked.environment, capture_output=True, text=True, timeout=30
        )
        return dict(json.loads(run.stdout)) if run.returncode == 0 else {"origin": run.stderr[-2000:]}
    except (subprocess.TimeoutExpired, ValueError) as error:
        return {"origin": f"unknown: {error}"}


if __name__ == "__main__":
    typer.run(main)
