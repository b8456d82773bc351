"""Files and folders that appear whole or not at all, readable for whom new files are (safetensors' own: its owner)."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewstep.errors import CannotWrite


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
    partial = target.parent / f".fewstep-{secrets.token_hex(6)}.part"
    if not target.parent.is_dir():
        raise CannotWrite(f"cannot write {target}: there is no folder {target.parent}; make it first")
    try:
        yield partial
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
