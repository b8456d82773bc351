"""Files and folders that appear whole or not at all, and that others may read where they may read any new file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewstep.writing import new_folder, replacing

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
