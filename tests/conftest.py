"""Models that the tests share: the miniature always, the shipped starter where its weights are in the checkout.

What is heavy is imported where it is needed: the process that only hands tests out to workers reads this file, too.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import fewstep
from fewstep.models.locating import STARTER

if TYPE_CHECKING:
    from fewstep.models.model import Model

gc.disable()  # until all is collected: a million objects that stay, see `pytest_runtestloop`

settings.register_profile("unhurried", deadline=None)  # a loaded machine fails no test by being slow
settings.load_profile("unhurried")

HAS_STARTER = (STARTER / "model_index.json").is_file()
NEEDS_STARTER = pytest.mark.skipif(not HAS_STARTER, reason="no weights yet")
FAMILIES = ["miniature", pytest.param("starter", marks=[NEEDS_STARTER, pytest.mark.slow])]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on Python's collector runs, and leaves alone what the imports and the collection have made."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """On tensors this small, threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests keep is not what the user keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's folder; read only (`copy_of` gives one to damage)."""
    from miniature import write_miniature

    return write_miniature(tmp_path_factory.mktemp("models") / "miniature")


@pytest.fixture(scope="session")
def student(miniature: Path) -> Model:
    return fewstep.load(miniature, device="cpu")


@pytest.fixture(scope="session")
def teacher(miniature: Path) -> Model:
    return fewstep.load(miniature / "teacher", device="cpu")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter as `fewstep export` writes it, its teacher inside: a folder that other programs open."""
    from fewstep.models.saving import export

    folder = tmp_path_factory.mktemp("exported") / "starter"
    export("starter", folder)
    export("starter-teacher", folder / "teacher")
    return folder


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest, miniature: Path) -> Path:
    """The folder of a student with its teacher inside: every test that asks for it runs for each."""
    if request.param == "miniature":
        return miniature
    folder: Path = request.getfixturevalue("exported")
    return folder
