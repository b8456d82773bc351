"""`make gpu-wheels`: what `make gpu` must bring along to a machine without a package index, as a folder of wheels.

For Python 3.12 on x86-64 Linux, in the versions of constraints.txt, and without what they need in turn: `packages.py`
says what is there. The tracked tree and the wheels must travel together.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gpu.packages import ROOT, WHEELS

MOST_MIB = 60
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")


def main(folder: Annotated[Path, typer.Argument(help="Emptied and filled.")] = Path(".wheels")) -> None:
    """Fetch them, and refuse more than may travel."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(command(folder, pinned((ROOT / "constraints.txt").read_text())), check=True)
    tree, wheels = tracked_bytes(), sum(file.stat().st_size for file in folder.glob("*.whl"))
    told = f"the tracked tree is {tree / 2**20:.1f} MiB, the wheels are {wheels / 2**20:.1f}"
    if tree + wheels > MOST_MIB * 2**20:
        raise SystemExit(f"{told}: together more than the {MOST_MIB} MiB that may travel")
    typer.echo(f"{told}: together {(tree + wheels) / 2**20:.1f} of the {MOST_MIB} MiB that may travel")


def pinned(constraints: str) -> list[str]:
    """NAME==VERSION of each package; raises `SystemExit` for one that constraints.txt lacks."""
    versions = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    if lacking := [package for package in WHEELS if package not in versions]:
        raise SystemExit(f"constraints.txt has no version of {', '.join(lacking)}")
    return [f"{package}=={versions[package]}" for package in WHEELS]


def command(folder: Path, requirements: list[str]) -> list[str]:
    """pip's, for that other machine."""
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    return [*pip, *options, *platforms, "--dest", str(folder), *requirements]


def tracked_bytes() -> int:
    """Of all files that git tracks, as they are here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sum((ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file())


if __name__ == "__main__":
    typer.run(main)
