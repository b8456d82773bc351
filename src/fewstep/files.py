"""Files and folders that appear whole or not at all, locks on folders, and where fewstep keeps what it can make again.

New files are readable for whom new files are (safetensors' own would be for their owner alone).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from fewstep.errors import CannotWrite, InUse

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

LOCK = ".fewstep.lock"
PARTIAL = ".fewstep-part-{}"
FULL = (errno.ENOSPC, errno.EDQUOT)
MAKE_ROOM = "the disk is full, or your share of it; make room and repeat the command"


def cache_folder() -> Path:
    """$FEWSTEP_CACHE, else $XDG_CACHE_HOME/fewstep, else ~/.cache/fewstep. It need not exist."""
    if own := os.environ.get("FEWSTEP_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewstep"


@contextmanager
def locked(folder: Path, what: str = "the folder") -> Iterator[None]:
    """Keep every other process out of `folder`, which is there, as long as the block lasts.

    The lock belongs to this process: it ends with it, however it ends. The small file that carries it stays. What a
    process that was killed has left half-written in `folder` is removed.

    what  for the message: "the run", "the report"

    Raises `InUse`, with the other process's number where it is known, and `CannotWrite`.
    """
    from filelock import FileLock, Timeout  # which imports asyncio

    file = folder / LOCK
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InUse(
            f"{what} {folder} is in use by another process{_holder(file)}: wait for it or stop it, or choose another "
            "folder"
        ) from error
    except OSError as error:
        raise CannotWrite(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        with suppress(OSError):  # on Windows nobody may write into a locked file: its holder is then not named
            file.write_text(f"{os.getpid()}\n")
        for left in folder.glob(PARTIAL.format("*")):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def holder(folder: Path) -> int | None:
    """The number of the process that has `folder` locked; None where none has."""
    from filelock import FileLock, Timeout

    file = folder / LOCK
    if not file.is_file():
        return None
    try:
        with FileLock(file, timeout=0):
            return None
    except Timeout:
        return int(file.read_text())


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is empty, but for the lock's file and what was left half-written."""
    return not any(path.name != LOCK and not path.match(PARTIAL.format("*")) for path in folder.iterdir())


def _holder(file: Path) -> str:
    with suppress(OSError, ValueError):
        return f" ({int(file.read_text())})"
    return ""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write a file to; after the block, and only if it went well, that becomes `target`.

    Raises `CannotWrite`.
    """
    with _beside(target) as partial:
        partial.touch(exist_ok=False)
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        partial.replace(target)


def write_tensors(target: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name as a safetensors file, whole or not at all. Raises `CannotWrite`."""
    from safetensors.torch import save_file

    with replacing(target) as partial:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, partial, None if metadata is None else dict(metadata))


def check_new(target: Path) -> None:
    """Raises `CannotWrite` where `target` is there and not an empty folder."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CannotWrite(f"cannot write {target}: it is there already; choose another name or remove it")


@contextmanager
def new_folder(target: Path, *, replaces: bool = False) -> Iterator[Path]:
    """A folder to fill, in any way; after the block, and only if it went well, that becomes `target`.

    replaces  whether it takes the place of a folder that is there, which stays until then

    Raises `CannotWrite`, also where `target` is there, is not an empty folder, and is not to be replaced.
    """
    if not (replaces and target.is_dir()):
        check_new(target)
    empty = target.is_dir() and not any(target.iterdir())
    with _beside(target) as partial:
        partial.mkdir()
        yield partial
        for file in filter(Path.is_file, partial.rglob("*")):
            file.chmod(partial.stat().st_mode & 0o666)
        if empty:
            target.rmdir()
        elif target.exists():
            target.replace(partial.with_name("before"))
        partial.replace(target)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """What the system refuses in the block, whoever passes that on, becomes a `CannotWrite` that names `target`."""
    try:
        yield
    except Exception as error:
        if (reason := _refusal(error)) is None:
            raise
        raise CannotWrite(f"cannot write {target}: {reason}") from error


def _refusal(error: Exception) -> str | None:
    """Why the system refused something; None for an error that it had no part in.

    Libraries in Rust (safetensors, tokenizers) have errors of their own, which end in "(os error 28)".
    """
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = int(told[1]) if told else getattr(error, "errno", None)
    if number is None:
        return None
    if number in FULL:
        return MAKE_ROOM
    elsewhere = str(getattr(error, "filename", None) or "")
    about_it = not elsewhere or PARTIAL.format("") in elsewhere
    return os.strerror(number) if about_it else f"{elsewhere}: {os.strerror(number)}"


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A path in a folder of its own on the same disk, so that all is gone afterwards what a library leaves there."""
    if not target.parent.is_dir():
        raise CannotWrite(f"cannot write {target}: there is no folder {target.parent}; make it first")
    home = target.parent / PARTIAL.format(secrets.token_hex(6))
    try:
        with writing(target):
            home.mkdir()
            yield home / (target.name or "new")
    finally:
        shutil.rmtree(home, ignore_errors=True)
