"""Packed weights: what comes back is as near as the bits allow, and only over the base that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.models import packed
from fewstep.models.locating import PACKED

# Signal to noise, in dB, of the best uniform quantiser for a Gaussian (Max 1960); groups of 64 come within 0.5 dB.
OPTIMAL = {2: 9.25, 3: 14.27, 4: 19.38, 5: 24.57, 6: 29.83, 8: 40.34}


@pytest.fixture
def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-3, 2, 96).unsqueeze(1)  # rows of very different size, as networks have them
    return {
        "conv": (torch.randn(96, 333, generator=draw) * sizes).view(96, 37, 3, 3),  # not a multiple of a group
        "bias": torch.randn(4000, generator=draw),
        "small": torch.randn(8, 8, generator=draw),
        "empty": torch.zeros(64, 64),
    }


def noise(before: Tensor, after: Tensor) -> float:
    """Decibels by group-free rows: each row's signal over its error, on average."""
    x, y = before.flatten(1).double(), after.flatten(1).double()
    return float((10 * torch.log10(x.square().sum(1) / (x - y).square().sum(1))).mean())


@pytest.mark.parametrize("bits", packed.PLANES)
def test_every_width_comes_back_as_near_as_a_quantiser_can(
    weights: dict[str, Tensor], bits: int, tmp_path: Path
) -> None:
    packed.pack(weights, tmp_path / PACKED, bits, {"kept": "yes"})
    back, metadata = packed.read(tmp_path / PACKED)
    assert metadata == {"kept": "yes"}
    assert noise(weights["conv"], back["conv"]) > OPTIMAL[bits] - 0.5
    assert back["conv"].shape == weights["conv"].shape
    torch.testing.assert_close(back["bias"], weights["bias"].half())
    torch.testing.assert_close(back["small"], weights["small"].half())
    assert not back["empty"].any()
    stored = (tmp_path / PACKED).stat().st_size
    numbers = weights["conv"].numel() + weights["empty"].numel()
    assert stored < numbers * (bits + 0.3) / 8 + 2 * (4000 + 64) + 2000


def test_a_difference_is_finer_than_the_same_bits_of_the_whole(weights: dict[str, Tensor], tmp_path: Path) -> None:
    near = {name: weight * 1.03 for name, weight in weights.items()} | {"new": torch.randn(64, 64)}
    packed.pack(weights, tmp_path / "base", 6)
    packed.pack(near, tmp_path / "near", 2, base=tmp_path / "base")
    back, _ = packed.read(tmp_path / "near")
    assert noise(near["conv"], back["conv"]) > OPTIMAL[2] + 20
    assert noise(near["new"], back["new"]) == pytest.approx(OPTIMAL[2], abs=0.5)  # which the base has not
    assert packed.base_of(tmp_path / "near") == tmp_path / "base"
    assert packed.base_of(tmp_path / "base") is None


def test_another_base_and_a_missing_one_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    packed.pack(weights, tmp_path / "base", 6)
    packed.pack(weights, tmp_path / "near", 2, base=tmp_path / "base")
    packed.pack({**weights, "bias": weights["bias"] + 1}, tmp_path / "base", 6)
    with pytest.raises(InvalidModel, match=r"other weights than .*base: it names SHA-256 [0-9a-f]{12}, and"):
        packed.read(tmp_path / "near")
    (tmp_path / "base").unlink()
    with pytest.raises(InvalidModel, match="which is missing"):
        packed.read(tmp_path / "near")


def test_what_is_not_packed_is_read_as_it_is(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "plain.safetensors", {"name": "plain"})
    back, metadata = packed.read(tmp_path / "plain.safetensors")
    assert metadata == {"name": "plain"}
    assert torch.equal(back["conv"], weights["conv"])


def test_damage_is_said(weights: dict[str, Tensor], tmp_path: Path) -> None:
    packed.pack(weights, tmp_path / "whole", 6)
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-100])
    with pytest.raises(InvalidModel, match="cannot be read as safetensors"):
        packed.read(tmp_path / "cut")
    facts = '{"conv": {"bits": 6, "shape": [96, 37, 3, 9], "difference": false}}'
    save_file({"conv|codes": torch.zeros(100, dtype=torch.uint8), "conv|steps": torch.zeros(3)}, tmp_path / "odd")
    save_file(
        {"conv|codes": torch.zeros(100, dtype=torch.uint8), "conv|steps": torch.zeros(3)},
        tmp_path / "odd",
        {"packed": facts},
    )
    with pytest.raises(InvalidModel, match="damaged"):
        packed.read(tmp_path / "odd")
