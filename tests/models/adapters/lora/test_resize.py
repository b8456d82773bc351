"""A LoRA in fewer bytes: the best of its kind by linear algebra, within what was asked, and still readable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import fewstep
from fewstep.errors import InvalidModel, InvalidRequest
from fewstep.models.adapters.lora.convert import convert, write_lora
from fewstep.models.adapters.lora.file import LoraFile
from fewstep.models.adapters.lora.kinds.lora import LoraLayer
from fewstep.models.adapters.lora.put_on import merged
from fewstep.models.adapters.lora.resize import resized
from fewstep.models.lean.part import twin_of
from fewstep.models.locating import ADAPTERS


def change(layer: LoraLayer) -> Tensor:
    down, up = layer.down.double().flatten(1), layer.up.double().flatten(1)
    return layer.alpha / layer.rank * up @ down


def a_file(path: Path, rank: int = 6, alpha: float = 3.0, dtype: torch.dtype = torch.float32) -> LoraFile:
    """A linear layer, a convolution, and a layer whose change has a rank of one only."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    one = normal(rank, 1) @ normal(1, 12), normal(20, 1) @ normal(1, rank)
    layers = {
        "attn2.to_k": LoraLayer(normal(rank, 16), normal(10, rank), alpha),
        "conv1": LoraLayer(normal(rank, 8, 3, 3), normal(24, rank, 1, 1), alpha),
        "one": LoraLayer(*one, alpha),
    }
    write_lora({"unet": layers}, "diffusers", path)
    return LoraFile.read(path)


@pytest.mark.parametrize("alpha", [4.0, -2.0])
def test_a_single_layer_becomes_its_best_approximation(tmp_path: Path, alpha: float) -> None:
    """Eckart and Young: what is lost is the sum of the squares of the singular values that were left out."""
    layer = LoraLayer(torch.randn(8, 30), torch.randn(20, 8), alpha)
    write_lora({"unet": {"attn2.to_k": layer}}, "diffusers", tmp_path / "one.safetensors")
    file = LoraFile.read(tmp_path / "one.safetensors")
    small, share = resized(file, file.path.stat().st_size - 2 * (30 + 20) * 4 - 8)
    [kept] = small.layers["unet"].values()
    values = torch.linalg.svdvals(change(layer)).square()
    assert kept.rank == 5
    torch.testing.assert_close((change(layer) - change(kept)).square().sum(), values[5:].sum(), rtol=1e-4, atol=1e-4)
    assert share == pytest.approx(float(values[:5].sum() / values.sum()), abs=1e-5)


def test_room_goes_to_the_layers_that_need_it(tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.safetensors")
    before = file.layers["unet"]
    size = file.path.stat().st_size
    small, share = resized(file, size - 4 * (12 + 20) * 4)
    assert {name: layer.rank for name, layer in small.layers["unet"].items()} == {
        "attn2.to_k": 6,
        "conv1": 6,
        "one": 1,
    }
    assert share == pytest.approx(1, abs=1e-9)
    for name, layer in small.layers["unet"].items():
        torch.testing.assert_close(change(layer), change(before[name]), rtol=1e-4, atol=1e-4)
        assert layer.down.shape[1:] == before[name].down.shape[1:]
        assert layer.up.shape[2:] == before[name].up.shape[2:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_never_takes_more_than_was_allowed_and_the_more_the_better(tmp_path: Path, dtype: torch.dtype) -> None:
    file = a_file(tmp_path / "a.safetensors", dtype=dtype)
    whole = file.path.stat().st_size
    shares = []
    for size in range(whole - 1_000, whole, 97):
        small, share = resized(file, size)
        assert small.layers["unet"]["conv1"].down.dtype == dtype
        write_lora(small.layers, "diffusers", tmp_path / "b.safetensors")
        assert (tmp_path / "b.safetensors").stat().st_size <= size
        shares.append(share)
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] <= 1


def test_what_is_small_enough_stays_as_it_is(tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.safetensors")
    assert resized(file, file.path.stat().st_size) == (file, 1.0)


def test_too_small_is_said_with_what_is_possible(tmp_path: Path) -> None:
    file = a_file(tmp_path / "a.safetensors")
    with pytest.raises(InvalidRequest, match=r"does not fit into 0.00 MB: with a rank of 1 in every layer it takes"):
        resized(file, 100)


def test_an_adapter_without_effect_stays_without(tmp_path: Path) -> None:
    """As a LoRA is before its training; and of a rank that is larger than the layer."""
    layer = LoraLayer(torch.randn(40, 30), torch.zeros(20, 40), 40.0)
    write_lora({"unet": {"attn2.to_k": layer}}, "diffusers", tmp_path / "zero.safetensors")
    small, share = resized(LoraFile.read(tmp_path / "zero.safetensors"), 6_000)
    assert share == 1.0
    assert float(change(small.layers["unet"]["attn2.to_k"]).abs().max()) == 0


def test_what_is_not_finite_is_said(tmp_path: Path) -> None:
    layer = LoraLayer(torch.randn(8, 30), torch.full((20, 8), torch.nan), 8.0)
    write_lora({"unet": {"attn2.to_k": layer}}, "diffusers", tmp_path / "nan.safetensors")
    with pytest.raises(InvalidModel, match="is damaged"):
        resized(LoraFile.read(tmp_path / "nan.safetensors"), 1_500)


@pytest.mark.slow
def test_it_works_as_before_where_only_spare_ranks_were_left_out(tmp_path: Path) -> None:
    """Twice the rank that the changes have: half of the file goes, and the network is the same, in diffusers' spelling
    and in kohya's."""
    file = LoraFile.read(ADAPTERS["blue-ink"])
    doubled = {
        name: LoraLayer(torch.cat([layer.down] * 2), torch.cat([layer.up] * 2, dim=1), layer.alpha)
        for name, layer in file.layers["unet"].items()
    }
    write_lora({"unet": doubled}, "diffusers", tmp_path / "doubled.safetensors", file.record)
    twice = LoraFile.read(tmp_path / "doubled.safetensors")
    small, share = resized(twice, twice.path.stat().st_size / 2 + 20_000)
    assert share == pytest.approx(1, abs=1e-5)
    teacher = fewstep.load("starter-teacher", device="cpu")
    inked = fewstep.load("starter-teacher", device="cpu", loras=[ADAPTERS["blue-ink"]])
    expected = merged(inked).network.module.state_dict()
    for spelling in ("diffusers", "kohya"):
        target = tmp_path / f"{spelling}.safetensors"
        assert convert(small, spelling, target, teacher) == []  # type: ignore[arg-type]
        assert target.stat().st_size < 0.6 * twice.path.stat().st_size
        weights = merged(fewstep.load("starter-teacher", device="cpu", loras=[target])).network.module.state_dict()
        assert all(torch.allclose(weights[name], each, atol=2e-3) for name, each in expected.items())


def test_diffusers_reads_ranks_that_differ_by_layer(tmp_path: Path) -> None:
    """The adapter that comes along in OpenMoji's style was made smaller so."""
    file = LoraFile.read(ADAPTERS["openmoji"])
    assert len(file.ranks) > 10
    unet = twin_of(fewstep.load("starter-teacher", device="cpu").network.module)
    ours = twin_of(merged(fewstep.load("starter-teacher", device="cpu", loras=["openmoji"])).network.module)
    x_t, t, states = torch.randn(2, 16, 8, 8), torch.tensor([999, 500]), torch.randn(2, 7, 384)
    pooled = {"text_embeds": torch.randn(2, 384)} if unet.config.addition_embed_type == "text" else None
    plain = unet(x_t, t, states, added_cond_kwargs=pooled).sample
    write_lora(file.layers, "diffusers", path := tmp_path / "openmoji.safetensors", file.record)
    unet.load_lora_adapter(load_file(path), prefix="unet")
    theirs = unet(x_t, t, states, added_cond_kwargs=pooled).sample
    torch.testing.assert_close(theirs, ours(x_t, t, states, added_cond_kwargs=pooled).sample, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(theirs, plain, atol=0.05)


def test_kohyas_metadata_say_the_largest_rank(tmp_path: Path) -> None:
    layers = {f"layer{rank}": LoraLayer(torch.ones(rank, 3), torch.ones(3, rank), float(rank)) for rank in (8, 16)}
    write_lora({"unet": layers}, "kohya", tmp_path / "a.safetensors")
    metadata = LoraFile.read(tmp_path / "a.safetensors").metadata
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("16", "16")
