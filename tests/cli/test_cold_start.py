"""What a cold start does not import, in a fresh interpreter each: a second of CPU or several."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import NEEDS_STARTER

TORCH = "torch"
LIBRARIES = (
    *("accelerate", "datasets", "diffusers", "fastapi", "huggingface_hub", "openvino", "peft", "requests", "scipy"),
    *("sympy", "tensorboard", "torch._dynamo", "torch._inductor", "transformers"),
)
# what runs a command line, and then lists the modules on its last line
RUN = """
import json, sys
from fewstep.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print(json.dumps([code or 0, sorted(sys.modules)]))
"""


def imported(script: str, *arguments: str, folder: Path) -> list[str]:
    command = [sys.executable, "-c", script, *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, modules = json.loads(run.stdout.splitlines()[-1])
    assert code == 0, run.stderr
    return [name for name in (TORCH, *LIBRARIES) if name in modules]


@pytest.mark.slow
def test_the_package_and_its_help_import_neither_torch_nor_a_library(tmp_path: Path) -> None:
    alone = "import json, sys, fewstep; print(json.dumps([0, sorted(sys.modules)]))"
    assert imported(alone, folder=tmp_path) == []
    for arguments in (("--help",), ("generate", "--help")):
        assert imported(RUN, *arguments, folder=tmp_path) == []


@pytest.mark.slow
@NEEDS_STARTER
@pytest.mark.parametrize(
    "options",
    [(), ("--fast",), ("--lora", "blue-ink", "--model", "starter-teacher", "--steps", "1")],
    ids=["plain", "fast", "adapter"],
)
def test_a_picture_of_the_starter_needs_torch_alone(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert imported(RUN, "generate", "a fox", "-o", "fox.png", *options, folder=tmp_path) == [TORCH]
    assert (tmp_path / "fox.png").is_file()
