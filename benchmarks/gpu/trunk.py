"""`make gpu-trunk`: the starter's trunk for minutes, with what `make gpu-trunk-art` and `gpu-wheels` brought.

python -m benchmarks.gpu.trunk --output DIR [--minutes 4] [--weights FILE]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gpu.packages import ROOT, unpack_missing


def main(
    output: Annotated[Path, typer.Option(help="Where weights and log go.")] = Path("build/gpu-trunk"),
    art: Annotated[Path, typer.Option(help="The folder that holds the art, and where it is drawn.")] = Path(".trunk"),
    wheels: Annotated[Path, typer.Option(help="What is not installed is imported from these.")] = Path(".wheels"),
    weights: Annotated[Path | None, typer.Option(help="Of the U-Net to begin with. [default: the package's]")] = None,
    minutes: Annotated[float, typer.Option(help="Of training.")] = 4.0,
    batch_size: Annotated[int, typer.Option()] = 2048,
) -> None:
    """Run the trunk in a process that finds the wheels."""
    with tempfile.TemporaryDirectory() as sites:
        unpack_missing(wheels, Path(sites))
        paths = [str(ROOT / "src"), str(ROOT), sites]
        command = [sys.executable, "-m", "recipes.trunk", "gpu", "--folder", str(art), "--output", str(output)]
        command += ["--minutes", str(minutes), "--batch-size", str(batch_size)]
        command += ["--from", str(weights)] if weights else []
        sys.exit(subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}).returncode)


if __name__ == "__main__":
    typer.run(main)
