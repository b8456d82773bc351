"""OpenVINO paints what PyTorch paints, for every kind of network, size and batch, and keeps its graphs safely."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import fewstep
from fewstep.files import cache_folder
from fewstep.models.adapters.lora.stack import LoraStack
from fewstep.models.adapters.record import Adapters
from fewstep.models.model import Model
from fewstep.runtime.openvino import CannotAccelerate, OpenVinoNetwork, accelerated
from miniature import write_miniature_sd1, write_miniature_sdxl

# not `importorskip`: an import that is not ours brings OpenVINO's telemetry
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("openvino") is None, reason="no OpenVINO here")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def fast(student: Model) -> Model:
    """The student, traced once."""
    return accelerated(student)


def painted(model: Model, **options: object) -> np.ndarray:
    images = fewstep.text2image(model, ["a blue cat", "red robot"], seed=3, **options)  # type: ignore[call-overload]
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("kind", ["lcm", "diffusion", "sd1", "sdxl"])
def test_the_pictures_are_the_same(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if kind == "sd1":
        model = fewstep.load(write_miniature_sd1(tmp_path, layers_per_block=1), device="cpu")
    elif kind == "sdxl":
        write_miniature_sdxl(tmp_path, layers_per_block=1, transformers=(1, 1, 1))
        model = fewstep.load(tmp_path, device="cpu")
    else:
        model = request.getfixturevalue("student" if kind == "lcm" else "teacher")
    fast = request.getfixturevalue("fast") if kind == "lcm" else accelerated(model)
    height, width = model.traits.default_size
    for size in ({}, {"height": height * 3 // 2, "width": width}):  # its own size, and the network for any size
        a, b = (painted(each, steps=2, **size) for each in (model, fast))
        assert a.std() > 1
        assert abs(a - b).max() <= 1  # of 255: the last bit of a float turns a rounding


def test_a_batch_is_its_rows(student: Model, fast: Model) -> None:
    x = torch.randn(
        5, *student.traits.latent_shape(*student.traits.default_size), generator=torch.Generator().manual_seed(0)
    )
    rows = torch.cat([fast.decode(x[i : i + 1]) for i in range(5)])
    assert torch.allclose(fast.decode(x), rows, atol=1e-5)
    assert torch.allclose(rows, student.decode(x), atol=1e-5)


def test_what_the_graph_was_not_traced_for_goes_to_pytorch(student: Model, fast: Model) -> None:
    """No w where the graph wants one; latents whose sides the U-Net cannot halve."""
    cond = student.encode_text(["a cat"])
    odd = torch.ones(1, student.network.module.config.in_channels, 6, 7)
    t = torch.tensor([999])
    for x, w in (
        (torch.ones(1, *student.traits.latent_shape(*student.traits.default_size)), None),
        (odd, torch.ones(1)),
    ):
        assert torch.equal(fast.denoise(x, t, cond, w), student.denoise(x, t, cond, w))


def test_graphs_are_kept_and_damaged_ones_made_again(
    student: Model, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = painted(accelerated(student), steps=1)
    (kept,) = own_cache.iterdir()
    assert student.origin.hash in kept.name
    with monkeypatch.context() as patch:
        patch.setattr("fewstep.runtime.openvino._traced", lambda *_: pytest.fail("traced though a graph was kept"))
        assert (painted(accelerated(student), steps=1) == expected).all()
    (kept / "unet" / "graph.xml").write_text("<net")
    assert (painted(accelerated(student), steps=1) == expected).all()
    assert (kept / "unet" / "graph.xml").read_text() != "<net"


def test_a_cache_that_cannot_be_written_costs_only_time(
    student: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "file"))
    with pytest.warns(fewstep.errors.FewstepWarning, match="not kept"):
        fast = accelerated(student)
    assert painted(fast, steps=1).std() > 1


def test_a_model_in_the_making_is_not_kept(student: Model, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewstep.runtime.openvino._traced", lambda *_: object())
    accelerated(replace(student, origin=student.origin.changed()))
    assert not own_cache.exists()


def test_obstacles_are_named(student: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotAccelerate, match="adapters"):
        accelerated(replace(student, adapters=Adapters(loras=LoraStack())))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(CannotAccelerate, match=r"pip install 'fewstep\[openvino\]'"):
            accelerated(student)
    assert not isinstance(student.network, OpenVinoNetwork)


def test_nothing_is_told_to_anybody() -> None:
    """OpenVINO's telemetry speaks at its import; ours never imports it."""
    program = (
        "from fewstep.runtime.openvino import _import; _import(); import sys; print(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_the_cache_folder_follows_the_systems_custom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWSTEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/fewstep")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fewstep"
