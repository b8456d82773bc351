"""The run's folder: what makes it tell everything, and what keeps two different runs out of one."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import fewstep
from fewstep.data.cache_folder import Manifest
from fewstep.errors import CannotWrite, InvalidConfig
from fewstep.files import Json, holds_nothing, locked, replacing
from fewstep.train.config import RunConfig
from fewstep.train.written import as_json, differences

CONFIG = "config.json"
RUN = "run.json"
DATA = "data.json"
PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow", "datasets")


@contextmanager
def open_folder(folder: Path, config: RunConfig) -> Iterator[None]:
    """Make the folder of a run, or check that the run in it is the same; it belongs to this process for the block.

    Raises `InvalidConfig`, naming the setting, where the folder has another run, `InUse` and `CannotWrite`.
    """
    _make(folder)
    with locked(folder, "the run"):
        _check_same(folder / CONFIG, as_json(config))
        yield


def _make(folder: Path) -> None:
    if folder.exists() and not (folder / CONFIG).is_file() and not (folder.is_dir() and holds_nothing(folder)):
        raise CannotWrite(f"{folder} is there and has no run of fewstep in it; choose a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror}") from error


def _check_same(path: Path, wanted: Mapping[str, Json]) -> None:
    """Of a run that was begun before; of a new one, write its settings down."""
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidConfig(f"{path} is damaged ({error}); choose another folder") from error
        if differing := differences(there, wanted):
            name, (before, now) = next(iter(differing.items()))
            raise InvalidConfig(
                f"{path.parent} has a run that was begun with {name} = {before!r}, and now it is {now!r}: repeat the "
                "command that began it to go on, or choose another folder"
            )
    else:
        _write(path, wanted)


def write_records(folder: Path, config: RunConfig, manifest: Manifest, facts: Mapping[str, Json]) -> None:
    """`config.json`, `data.json` and `run.json`: settings, data, and the software that ran."""
    _write(folder / CONFIG, as_json(config))
    _write(folder / DATA, dataclasses.asdict(manifest))
    packages = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    machine = {"platform": platform.platform(), "python": platform.python_version()}
    if torch.cuda.is_available():
        machine["cuda"] = torch.cuda.get_device_name()
    about: dict[str, Json] = {
        "fewstep": fewstep.__version__,
        "commit": commit(),
        "command": sys.argv[1:],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": packages,
        "machine": machine,
    }
    _write(folder / RUN, {**about, **facts})


def _write(path: Path, content: Mapping[str, Json]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the checkout that fewstep runs from; None for an installed package."""
    home = Path(fewstep.__file__).parents[2]
    if not (home / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
