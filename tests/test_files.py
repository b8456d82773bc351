"""Files and folders that appear whole or not at all, and that others may read where they may read any new file."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fewstep.errors import CannotWrite, InUse
from fewstep.files import LOCK, PARTIAL, locked, new_folder, replacing, write_tensors
from full_disk import files_of_at_most

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def allowed(request: pytest.FixtureRequest) -> Iterator[int]:
    """What a new file allows under some umask."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_weights_may_be_read_by_whom_other_files_may(tmp_path: Path, allowed: int) -> None:
    """safetensors makes its files readable for their owner alone, under any umask."""
    with replacing(tmp_path / "a.safetensors") as file:
        save_file({"x": torch.ones(2)}, file)
    with new_folder(tmp_path / "model") as folder:
        (folder / "unet").mkdir()
        save_file({"x": torch.ones(2)}, folder / "unet" / "b.safetensors")
        (folder / "card.md").write_text("a card")
    for name in ("a.safetensors", "model/unet/b.safetensors", "model/card.md"):
        assert mode(tmp_path / name) == allowed


def interrupted_file(target: Path) -> None:
    with replacing(target) as file:
        file.write_text("new")
        raise KeyboardInterrupt


def interrupted_folder(target: Path) -> None:
    with new_folder(target) as folder:
        (folder / "c.txt").write_text("new")
        raise KeyboardInterrupt


def test_what_is_interrupted_leaves_nothing_new_and_the_old_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_file(tmp_path / "a.txt")
    with pytest.raises(KeyboardInterrupt):
        interrupted_folder(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def holder_of(folder: Path) -> subprocess.Popen[str]:
    """Another process, which has the lock when this returns."""
    script = (
        "import sys, time; from pathlib import Path; from fewstep.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_folder_belongs_to_one_process_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    left = PARTIAL.format("0123")
    with holder_of(tmp_path) as holder:
        (tmp_path / left).mkdir()
        with pytest.raises(InUse, match=rf"the run {tmp_path} is in use by another process \({holder.pid}\)"):
            locked(tmp_path, "the run").__enter__()
        assert (tmp_path / left).is_dir()
        holder.kill()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        with pytest.raises(InUse, match=str(os.getpid())):
            locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(CannotWrite, match=str(tmp_path)):
        locked(tmp_path).__enter__()


def test_a_folder_that_is_replaced_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with pytest.raises(CannotWrite, match="Input"), new_folder(tmp_path / "model", replaces=True):
        raise OSError(errno.EIO, "broken")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]
    with new_folder(tmp_path / "model", replaces=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "is full"),
        (Exception("Disk quota exceeded (os error 122)"), "your share of it; make room"),  # as tokenizers says it
        (PermissionError(errno.EACCES, "Permission denied", "/data/a.png"), "/data/a.png: Permission denied$"),
        (OSError(errno.EIO, "Input/output error"), "a.txt: Input/output error$"),
    ],
)
def test_the_disk_is_called_full_where_it_is(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(CannotWrite, match=said), replacing(tmp_path / "a.txt"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="header"), replacing(tmp_path / "a.txt"):
        raise SafetensorError("header too large")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_weights_that_do_not_fit(tmp_path: Path) -> None:
    """safetensors writes under a name of its own first."""
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    with files_of_at_most(1000), pytest.raises(CannotWrite, match=r"a\.safetensors: File too large"):
        write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(1000)})
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
