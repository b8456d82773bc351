"""Networks made of others: what changes is new, what does not is shared, and the first stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import adapters
import fewstep
from fewstep.models.adapters.embeddings import with_embeddings
from fewstep.models.adapters.lora.put_on import merged, with_loras
from fewstep.models.model import Model
from fewstep.models.rebuilt import KeptWhole, rebuilt
from miniature import write_miniature_sd1


class Link(KeptWhole):
    """What several networks read."""


def test_only_what_is_given_instead_is_new() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    inner = network[1]
    network.link = Link()
    weight = nn.Parameter(torch.zeros(3, 3))
    other = rebuilt(network, {network[0]: nn.Identity(), inner[0].weight: weight})  # type: ignore[index]
    assert isinstance(other[0], nn.Identity)
    assert isinstance(network[0], nn.Linear)
    assert other[1][0].weight is weight  # type: ignore[index]
    assert inner[0].weight is not weight  # type: ignore[index]
    assert other[1] is not inner
    assert other.link is network.link
    shared = {id(each) for each in (*network.parameters(), *network.buffers())}
    assert [id(each) in shared for each in other.state_dict(keep_vars=True).values()] == [False] + [True] * 6


def tensors_of(model: Model) -> dict[str, Tensor]:
    return {f"{part}.{name}": x for part, net in model.networks.items() for name, x in net.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("puts_on", ["loras", "merged", "more loras", "embeddings"])
def test_a_model_stays_as_it_was_when_another_is_made_of_it(puts_on: str, tmp_path: Path) -> None:
    model = fewstep.load(write_miniature_sd1(tmp_path / "sd1"), device="cpu")
    layers = {"lora_unet": adapters.random_layers(model.network.module, 1)}
    path = adapters.write_kohya(tmp_path / "ink.safetensors", layers, alpha=3.0)
    word = tmp_path / "word.safetensors"
    save_file({"<word>": torch.randn(2, model.text.encoders["text_encoder"].config.hidden_size)}, word)
    if puts_on in ("merged", "more loras"):
        model = with_loras(model, [path])
    make: dict[str, Callable[[Model], Model]] = {
        "loras": lambda model: with_loras(model, [path]),
        "more loras": lambda model: with_loras(model, [(path, 0.5)]),
        "merged": merged,
        "embeddings": lambda model: with_embeddings(model, [word]),
    }

    def drawn(model: Model) -> bytes:
        return fewstep.text2image(model, "a cat", steps=2, seed=1).tobytes()

    before = {name: tensor.clone() for name, tensor in tensors_of(model).items()}
    picture = drawn(model)
    other = make[puts_on](model)
    changed = drawn(other)
    after = tensors_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert drawn(model) == picture
    assert drawn(other) == changed
    held = {tensor.data_ptr() for tensor in after.values()}
    new = [name for name, tensor in tensors_of(other).items() if tensor.data_ptr() not in held]
    if puts_on == "merged":
        assert len(new) == sum(name.endswith("base_layer.weight") for name in before)
    else:
        assert new
        assert all(".adapters." in name or name.endswith("vectors") for name in new)
