"""Short memory: what is chosen for how much, and that a model in parts or in layers paints the same picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fewstep
from adapters import loha_layers, oft_layers, random_layers, write_kohya
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models import memory
from fewstep.models.autoencoder import Autoencoder, config_of
from fewstep.models.families.sd import SD1
from fewstep.models.families.sdxl import SDXL
from fewstep.models.families.unet import UNetFamily
from fewstep.models.fast_decoder import FastDecoder, FastDecoderConfig
from fewstep.models.memory import GIB, Need, Placement, Stages
from fewstep.models.model import Model
from miniature import write_miniature_sd1

CPU = torch.device("cpu")
PROMPT = "a red cat"


def in_turns(model: Model, device: torch.device) -> Model:
    model.placement.in_turns(model.stages, device)
    return model


def in_layers(model: Model, device: torch.device) -> Model:
    model.placement.in_layers(model.stages, device)
    return model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return fewstep.load(write_miniature_sd1(tmp_path / "sd1"), device="cpu")


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (100, ("full", False)),
        (45, ("full", True)),
        (30, ("parts", True)),
        (15, ("layers", True)),
        (1, ("layers", True)),
    ],
)
def test_the_first_policy_that_fits(free: int, expected: tuple[str, bool]) -> None:
    assert Need(weights=30, stage=20, whole=50, tile=5).policy(free) == expected


@pytest.mark.parametrize(
    ("family", "gib", "expected"),
    [(SD1, 8, "full"), (SD1, 2.8, "parts"), (SDXL, 16, "full"), (SDXL, 7.5, "parts"), (SDXL, 4, "layers")],
)
def test_the_published_models_on_cards_that_people_have(family: UNetFamily, gib: float, expected: str) -> None:
    parts = {part: family.blank(part).half() for part in family.networks}
    autoencoder: Any = parts["vae"]
    traits = family.traits(config_of(parts["unet"]), autoencoder.config)
    assert traits is not None
    encoders = [parts[part] for part in family.encoders]
    stages = Stages(family.name, traits.default_size, encoders, [parts["unet"]], Autoencoder(autoencoder))
    assert Need.of(stages).policy(round(gib * GIB))[0] == expected


@pytest.fixture
def fast(model: Model) -> Model:
    """The same with a fast decoder of its own, as the starter is served."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        decoder = FastDecoder(FastDecoderConfig(latent_channels=4, channels=16, num_blocks=(1, 1), patch=4)).eval()
    return dataclasses.replace(model, autoencoder=dataclasses.replace(model.autoencoder, decoder=decoder))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [in_turns, in_layers])
@pytest.mark.parametrize("which", ["model", "fast"])
def test_the_picture_is_the_same_to_the_bit(request: pytest.FixtureRequest, which: str, spread: Any) -> None:
    model: Model = request.getfixturevalue(which)
    picture = fewstep.text2image(model, PROMPT, seed=1, steps=3)
    again = fewstep.image2image(model, PROMPT, picture, seed=1, steps=3, strength=0.6)
    elsewhere = spread(model, CPU)
    assert np.array_equal(np.asarray(picture), np.asarray(fewstep.text2image(elsewhere, PROMPT, seed=1, steps=3)))
    second = fewstep.image2image(elsewhere, PROMPT, picture, seed=1, steps=3, strength=0.6)
    assert np.array_equal(np.asarray(again), np.asarray(second))


@pytest.mark.parametrize("which", ["model", "fast"])
def test_only_one_stage_is_on_the_device_at_a_time(
    request: pytest.FixtureRequest, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Model = request.getfixturevalue(which)
    moves: list[tuple[int, str]] = []
    stages = model.stages
    for number, stage in enumerate(stages):
        for network in stage:
            monkeypatch.setattr(
                network, "to", lambda device, n=number, own=network: moves.append((n, str(device))) or own
            )
    there = torch.device("cpu", 0)
    fewstep.text2image(in_turns(model, there), PROMPT, seed=1, steps=2, num_images=2, batch_size=1, guidance_scale=3.0)
    turns = [move for move, _ in groupby(moves)]  # of a stage of several networks, all go together
    on = [number for number, device in turns if device == "cpu:0"]
    away = [number for number, device in turns if device == "cpu"]
    assert on == [0, 1, 2] * 2  # read, paint, decode; both pictures
    assert away == on[:-1]  # each leaves before the next comes
    assert [device for _, device in turns][1:] == ["cpu", "cpu:0"] * 5


@pytest.mark.slow
def test_adapters_are_weighed_in_layers_too(model: Model, tmp_path: Path) -> None:
    write_kohya(tmp_path / "ink.safetensors", {"lora_unet": random_layers(model.network.module, 1)}, alpha=3.0)
    inked = fewstep.load(model.origin.folder, device="cpu", loras=[tmp_path / "ink.safetensors"])  # type: ignore[arg-type]
    expected = [np.asarray(fewstep.text2image(inked, PROMPT, seed=1, steps=2, loras={"ink": w})) for w in (0, 1)]
    assert not np.array_equal(*expected)
    spread = in_layers(inked, CPU)
    ours = [np.asarray(fewstep.text2image(spread, PROMPT, seed=1, steps=2, loras={"ink": w})) for w in (0, 1)]
    assert all(map(np.array_equal, expected, ours))


@pytest.mark.slow
@pytest.mark.parametrize("make", [loha_layers, oft_layers])
def test_other_kinds_of_adapters_and_embeddings_work_in_layers_too(
    make: Callable[[torch.nn.Module], dict[str, torch.Tensor]], model: Model, tmp_path: Path
) -> None:
    save_file(make(model.network.module), tmp_path / "ink.safetensors")
    save_file(
        {"emb_params": torch.randn(2, model.text.encoders["text_encoder"].config.hidden_size)},
        tmp_path / "toy.safetensors",
    )
    files = {"loras": [tmp_path / "ink.safetensors"], "embeddings": [tmp_path / "toy.safetensors"]}
    inked = fewstep.load(model.origin.folder, device="cpu", **files)  # type: ignore[arg-type]
    said = ("a toy cat", "a cat")
    expected = [np.asarray(fewstep.text2image(inked, each, seed=1, steps=2)) for each in said]
    assert not np.array_equal(*expected)
    spread = in_layers(inked, CPU)
    ours = [np.asarray(fewstep.text2image(spread, each, seed=1, steps=2)) for each in said]
    assert all(map(np.array_equal, expected, ours))


def test_an_overflow_is_mended_in_layers_too(model: Model) -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    model.autoencoder.module.half().float()
    expected = model.decode(latents)
    model.autoencoder.module.half()
    spread = in_layers(model, CPU)
    with pytest.warns(FewstepWarning, match="overflows in float16"):
        pixels = spread.decode(latents * 1e6)
    assert pixels.isfinite().all()
    assert torch.equal(spread.decode(latents), expected)


def test_what_does_not_fit_after_all_takes_turns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as fitting, and then another program took the memory."""
    whole = Placement.whole

    def taken(placement: Placement, stages: Stages, device: torch.device) -> None:
        if device.index is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        whole(placement, stages, device)

    monkeypatch.setattr(memory, "has_own_memory", lambda device: True)
    monkeypatch.setattr(Placement, "whole", taken)
    device = torch.device("cpu", 0)
    with pytest.warns(FewstepWarning, match="sd1 does not fit onto cpu:0 at once: its parts take turns there"):
        model.placement.put(model.stages, device)
    assert model.device == device
    with pytest.raises(torch.OutOfMemoryError):
        model.placement.put(model.stages, device, "full")


def test_a_picture_that_does_not_fit_is_painted_with_less_and_less(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.asarray(fewstep.text2image(model, PROMPT, seed=1, steps=2))
    decode, fits = type(model).decode, False

    def little_memory(self: Model, latents: torch.Tensor) -> torch.Tensor:
        if not any(parameter.is_meta for parameter in self.network.module.parameters()):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if not fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, latents)

    monkeypatch.setattr(memory, "has_own_memory", lambda device: True)
    monkeypatch.setattr(type(model), "decode", little_memory)
    with pytest.warns(FewstepWarning) as warned, pytest.raises(InvalidRequest, match="does not fit into the memory of"):
        fewstep.text2image(model, PROMPT, seed=1, steps=2)
    told = [str(each.message) for each in warned]
    for words in (
        "pictures are decoded in tiles",
        "its parts take turns there",
        "every layer is brought there in turn",
    ):
        assert any(words in text for text in told)
    fits = True
    assert np.abs(np.asarray(fewstep.text2image(model, PROMPT, seed=1, steps=2), dtype=int) - expected).max() <= 1


def test_a_network_in_training_stays_where_it_is(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the sheets of a run: the optimiser holds the very weights that would be moved."""
    monkeypatch.setattr(memory, "has_own_memory", lambda device: True)
    moves: list[object] = []
    monkeypatch.setattr(Placement, "in_turns", lambda placement, stages, device: moves.append("turns"))
    next(iter(model.network.module.parameters())).requires_grad_(True)
    assert model.take_less() == "pictures are decoded in tiles"
    assert model.take_less() is None
    assert (moves, model.placement.device) == ([], None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.97 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_is_used_up_is_known_by_its_words(error: Exception, expected: bool) -> None:
    assert memory.out_of_memory(error) is expected


def test_a_fast_decoder_is_counted(fast: Model, model: Model) -> None:
    assert Need.of(fast.stages).weights > Need.of(model.stages).weights


def test_what_is_chosen_is_said_in_one_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    monkeypatch.setattr(Placement, "in_layers", lambda placement, stages, device: chosen.append("layers"))
    with pytest.warns(FewstepWarning, match=r"sd1 takes 0.0 GiB, 0.0 are free on cuda: every layer is brought there"):
        model.placement.put(model.stages, torch.device("cuda"))
    assert chosen == ["layers"]
    assert model.autoencoder.module.use_tiling


def test_unknown_ones_are_refused(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="unknown memory policy 'little'; choose one of auto, full, parts, layers"):
        fewstep.load(model.origin.folder, memory="little")  # type: ignore[arg-type]


def test_kind_and_prediction_can_be_overridden(model: Model, tmp_path: Path) -> None:
    folder: Any = model.origin.folder
    assert (model.profile.kind, model.profile.steps, model.profile.prediction.name) == ("diffusion", 25, "epsilon")
    other = fewstep.load(folder, device="cpu", kind="lcm", prediction_type="v_prediction")
    assert (other.profile.kind, other.profile.steps, other.profile.guidance.scale) == ("lcm", 4, 1.0)
    assert other.profile.prediction.name == "v_prediction"
    with pytest.raises(InvalidRequest, match="unknown kind of model 'turbo'; choose one of lcm, diffusion"):
        fewstep.load(folder, kind="turbo")  # type: ignore[arg-type]
    with pytest.raises(
        InvalidRequest, match="unknown prediction type 'x'; choose one of epsilon, v_prediction, sample"
    ):
        fewstep.load(folder, prediction_type="x")
