"""Short memory: what is chosen for how much, and that a model in parts or in layers paints the same picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewstep
from adapters import random_layers, write_kohya
from fewstep.errors import FewstepWarning, InvalidRequest
from fewstep.models import memory
from fewstep.models.architectures import SD1, SDXL
from fewstep.models.bundle import ModelBundle
from fewstep.models.memory import GIB, Need, in_layers, in_turns, placed, stages_of
from miniature import write_miniature_sd1

CPU = torch.device("cpu")
PROMPT = "a red cat"


@pytest.fixture
def model(tmp_path: Path) -> ModelBundle:
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
    ("architecture", "gib", "expected"),
    [(SD1, 8, "full"), (SD1, 2.8, "parts"), (SDXL, 16, "full"), (SDXL, 7.5, "parts"), (SDXL, 4, "layers")],
)
def test_the_published_models_on_cards_that_people_have(architecture: Any, gib: float, expected: str) -> None:
    parts = {part: architecture.network(part).half() for part in architecture.parts}
    bundle: Any = dataclasses.make_dataclass(
        "Bundle",
        ["unet", "autoencoder", "text_encoder", "text_encoder_2", "controlnets", "image_prompts", "default_size"],
    )(
        parts["unet"],
        parts["vae"],
        parts["text_encoder"],
        parts.get("text_encoder_2"),
        None,
        None,
        (architecture.unet["sample_size"] * 8,) * 2,
    )
    assert Need.of(bundle).policy(round(gib * GIB))[0] == expected


@pytest.mark.parametrize("spread", [in_turns, in_layers])
def test_the_picture_is_the_same_to_the_bit(model: ModelBundle, spread: Any) -> None:
    picture = fewstep.text2image(model, PROMPT, seed=1, steps=3)
    again = fewstep.image2image(model, PROMPT, picture, seed=1, steps=3, strength=0.6)
    elsewhere = spread(model, CPU)
    assert np.array_equal(np.asarray(picture), np.asarray(fewstep.text2image(elsewhere, PROMPT, seed=1, steps=3)))
    second = fewstep.image2image(elsewhere, PROMPT, picture, seed=1, steps=3, strength=0.6)
    assert np.array_equal(np.asarray(again), np.asarray(second))


def test_only_one_stage_is_on_the_device_at_a_time(model: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[int, str]] = []
    stages = stages_of(model)
    for number, stage in enumerate(stages):
        for network in stage:
            monkeypatch.setattr(
                network, "to", lambda device, n=number, own=network: moves.append((n, str(device))) or own
            )
    there = torch.device("cpu", 0)
    fewstep.text2image(in_turns(model, there), PROMPT, seed=1, steps=2, num_images=2, batch_size=1, guidance_scale=3.0)
    on = [number for number, device in moves if device == "cpu:0"]
    away = [number for number, device in moves if device == "cpu"]
    assert on == [0, 1, 2] * 2  # read, paint, decode; both pictures
    assert away == on[:-1]  # each leaves before the next comes
    assert [device for _, device in moves][1:] == ["cpu", "cpu:0"] * 5


def test_adapters_are_weighed_in_layers_too(model: ModelBundle, tmp_path: Path) -> None:
    write_kohya(tmp_path / "ink.safetensors", {"lora_unet": random_layers(model.unet, 1)}, alpha=3.0)
    inked = fewstep.load(model.folder, device="cpu", loras=[tmp_path / "ink.safetensors"])  # type: ignore[arg-type]
    expected = [np.asarray(fewstep.text2image(inked, PROMPT, seed=1, steps=2, loras={"ink": w})) for w in (0, 1)]
    assert not np.array_equal(*expected)
    spread = in_layers(inked, CPU)
    ours = [np.asarray(fewstep.text2image(spread, PROMPT, seed=1, steps=2, loras={"ink": w})) for w in (0, 1)]
    assert all(map(np.array_equal, expected, ours))


def test_what_is_chosen_is_said_in_one_line(model: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    monkeypatch.setattr(memory, "in_layers", lambda model, device: chosen.append("layers") or model)
    with pytest.warns(FewstepWarning, match=r"sd1 takes 0.0 GiB, 0.0 are free on cuda: every layer is brought there"):
        placed(model, torch.device("cuda"))
    assert chosen == ["layers"]
    assert model.autoencoder.use_tiling


def test_unknown_ones_are_refused(model: ModelBundle) -> None:
    with pytest.raises(InvalidRequest, match="unknown memory policy 'little'; choose one of auto, full, parts, layers"):
        fewstep.load(model.folder, memory="little")  # type: ignore[arg-type]


def test_kind_and_prediction_can_be_overridden(model: ModelBundle, tmp_path: Path) -> None:
    folder: Any = model.folder
    assert (model.kind, model.card.steps, model.prediction_type) == ("diffusion", 25, "epsilon")
    other = fewstep.load(folder, device="cpu", kind="lcm", prediction_type="v_prediction")
    assert (other.kind, other.card.steps, other.card.guidance_scale) == ("lcm", 4, 1.0)
    assert other.prediction_type == other.card.prediction_type == "v_prediction"
    with pytest.raises(InvalidRequest, match="unknown kind of model 'turbo'; choose one of lcm, diffusion"):
        fewstep.load(folder, kind="turbo")  # type: ignore[arg-type]
    with pytest.raises(
        InvalidRequest, match="unknown prediction type 'x'; choose one of epsilon, v_prediction, sample"
    ):
        fewstep.load(folder, prediction_type="x")
