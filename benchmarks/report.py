"""What every published table names: the command that made it, the commit, the machine and the versions.

`RESULTS` is where they go. All benchmarks write through `write`, so that no table lacks its origin.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fewstep.evaluate.run import device_name
from fewstep.train.folder import commit

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "diffusers", "transformers", "peft", "openvino")


def command(benchmark: str, *arguments: str, **options: object) -> str:
    """The line that runs `benchmark` with these options; None and False are left out, True is a flag."""
    words = ["python", "-m", f"benchmarks.{benchmark}", *arguments]
    for name, value in options.items():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is not None and each is not False:
                words += [f"--{name.replace('_', '-')}", *([] if each is True else [f"{each}"])]
    return shlex.join(words)


def origin(command: str) -> dict[str, Any]:
    """The fields that say where numbers come from; `commit` ends in -dirty where files had been changed."""
    return {
        "command": command,
        "commit": commit() or "unknown",
        "machine": f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def as_sentence(origin: Mapping[str, Any]) -> str:
    """The same, for the head of a table."""
    versions = ", ".join(f"{name} {value}" for name, value in origin["versions"].items() if value is not None)
    return f"`{origin['command']}`, commit {origin['commit']}, on {origin['machine']}; {versions}."


def write(
    name: str, command: str, *, values: Mapping[str, Any] | None = None, title: str = "", text: str = ""
) -> dict[str, Any]:
    """Write results/NAME.json of `values` and results/NAME.md of `text`, where given; returns what the JSON holds."""
    made = origin(command)
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = made | dict(values or {})
    if values is not None:
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    if text:
        page = f"# {title}\n\n{as_sentence(made)}\n\n{text.strip()}\n"
        (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    return result


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
