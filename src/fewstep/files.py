"""Files and folders that appear whole or not at all, locks on folders, and where fewstep keeps what it can make again.

New files are readable for whom new files are (safetensors' own would be for their owner alone).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fewstep.errors import CannotWrite, InUse

LOCK = ".fewstep.lock"
PARTIAL = ".fewstep-{}.part"


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
    file = folder / LOCK
    lock = FileLock(file, timeout=0, mode=0o666)
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
            _remove(left)
        yield
    finally:
        lock.release()


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is empty, but for the lock's file and what was left half-written."""
    return not any(path.name != LOCK and not path.match(PARTIAL.format("*")) for path in folder.iterdir())


def _holder(file: Path) -> str:
    with suppress(OSError, ValueError):
        return f" ({int(file.read_text())})"
    return ""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file to; after the block, and only if it went well, that becomes `target`.

    Raises `CannotWrite`.
    """
    with _beside(target) as partial:
        partial.touch(exist_ok=False)
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        partial.replace(target)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill; after the block, and only if it went well, that becomes `target`.

    Raises `CannotWrite`, also where `target` is there and not an empty folder.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CannotWrite(f"cannot write {target}: it is there already; choose another name or remove it")
    with _beside(target) as partial:
        partial.mkdir()
        yield partial
        for file in filter(Path.is_file, partial.rglob("*")):
            file.chmod(partial.stat().st_mode & 0o666)
        if target.exists():
            target.rmdir()
        partial.replace(target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    partial = target.parent / PARTIAL.format(secrets.token_hex(6))
    if not target.parent.is_dir():
        raise CannotWrite(f"cannot write {target}: there is no folder {target.parent}; make it first")
    try:
        yield partial
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        _remove(partial)


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
