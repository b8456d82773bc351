"""A model in other precisions and with its other decoder: the arithmetic they promise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fewstep
from adapters import random_layers, write_kohya
from fewstep.errors import InvalidRequest
from fewstep.models.adapters.lora.put_on import with_loras
from fewstep.models.fast_decoder import FastDecoder, FastDecoderConfig
from fewstep.models.locating import FAST_DECODER
from fewstep.models.model import Model
from fewstep.pipelines.provenance import record_of
from miniature import write_miniature


@pytest.fixture(scope="module")
def bringing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature, with a fast decoder of its own."""
    folder = write_miniature(tmp_path_factory.mktemp("bringing"), autoencoder="kl")
    (folder / FAST_DECODER).mkdir()
    torch.manual_seed(0)
    FastDecoder(FastDecoderConfig(16, channels=8, num_blocks=(1, 1, 1, 1), patch=2)).save(folder / FAST_DECODER)
    return folder


def painted(model: Model, **options: object) -> np.ndarray:
    options = {"steps": 2, "seed": 3, **options}
    return np.asarray(fewstep.text2image(model, "a cat", **options)).astype(int)  # type: ignore[call-overload]


def test_bfloat16_is_what_a_model_loaded_so_computes(miniature: Path, student: Model) -> None:
    loaded = fewstep.load(miniature, device="cpu", dtype="bfloat16")
    x, t = torch.randn(2, *student.traits.latent_shape(64, 64)), torch.tensor([999, 499])
    cond = student.conditioned(student.encode_text(["a cat", "a dog"]), 64, 64)
    w = torch.ones(2)
    rendition = student.at("bfloat16", "whole")
    assert torch.equal(rendition.denoise(x, t, cond, w), loaded.denoise(x, t, cond, w))
    assert torch.equal(rendition.decode(x), loaded.decode(x))
    assert not torch.equal(rendition.decode(x), student.decode(x))


def test_int8_has_255_levels_an_output(student: Model) -> None:
    before, after = (each.network.module for each in (student, student.at("int8", "whole")))
    ours = dict(after.named_modules())
    layers = [(name, each) for name, each in before.named_modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    assert len(layers) > 10
    for name, layer in layers:
        weight, rounded = (each.weight.flatten(1) for each in (layer, ours[name]))
        size = weight.abs().amax(1, keepdim=True) / 127
        levels = rounded / size
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert ((weight - rounded).abs() <= 0.5001 * size).all()  # the nearest of them


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_another_precision_is_nearly_the_same_picture(student: Model, precision: str) -> None:
    whole, other = painted(student), painted(student, precision=precision)
    assert 0 < np.sqrt(((whole - other) ** 2).mean()) < 6
    assert (painted(student) == whole).all()  # and the model is as it was


def test_adapters_are_weighed_in_any_precision(student: Model, tmp_path: Path) -> None:
    file = write_kohya(tmp_path / "a.safetensors", {"lora_unet": random_layers(student.network.module, 1)}, 3.0)
    model = with_loras(student, [file])
    none, some = (painted(model, precision="bfloat16", loras={"a": weight}) for weight in (0.0, 1.0))
    assert (none == painted(student, precision="bfloat16")).all()
    assert abs(none - some).max() > 3


def test_the_request_chooses_the_decoder(bringing: Path) -> None:
    model, fast = (fewstep.load(bringing, device="cpu", vae=vae) for vae in (None, "fast"))
    assert (model.decoders, fast.decoders) == (("whole", "fast"), ("fast", "whole"))
    assert (painted(model) == painted(fast, decoder="whole")).all()
    assert (painted(fast) == painted(model, decoder="fast")).all()
    assert (painted(model) != painted(fast)).any()


def test_a_picture_says_how_it_was_computed(bringing: Path) -> None:
    model = fewstep.load(bringing, device="cpu")
    image = fewstep.text2image(model, "a cat", steps=1, seed=1, precision="int8", decoder="fast")
    record = record_of(image)
    assert record is not None
    assert (record.precision, record.decoder, record.backend) == ("int8", "fast", "eager")
    assert "Computed: int8 fast eager" in record.to_parameters()
    plain = record_of(fewstep.text2image(model, "a cat", steps=1, seed=1))
    assert plain is not None
    assert (plain.precision, plain.decoder) == ("float32", "whole")
    assert "Computed" not in plain.to_parameters()


@pytest.mark.parametrize(
    ("options", "dtype", "words"),
    [
        ({"decoder": "fast"}, "float32", "brings no fast decoder; load it with another"),
        ({"precision": "float16"}, "float32", "can be sampled in float32 or bfloat16 or int8; for float16 load it in"),
        ({"precision": "int8"}, "bfloat16", "can be sampled in bfloat16 alone, which it is loaded in; for int8"),
        ({"precision": "half"}, "float32", "unknown precision 'half'; choose one of float32, float16, bfloat16, int8"),
    ],
    ids=str,
)
def test_what_a_model_has_not_is_refused(miniature: Path, options: dict[str, str], dtype: str, words: str) -> None:
    model = fewstep.load(miniature, device="cpu", dtype=dtype)
    with pytest.raises(InvalidRequest, match=words):
        painted(model, **options)
