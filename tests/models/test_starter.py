"""What every shipped starter must be: small, safe, described, and the weights that its card speaks of."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fewstep
from fewstep.errors import InvalidModel
from fewstep.models import packed
from fewstep.models.card import read_card
from fewstep.models.locating import PACKED, PICKLES, STARTER

MEGABYTE = 2**20

pytestmark = pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="no weights yet")


def test_it_is_small_enough_for_a_package() -> None:
    sizes = [path.stat().st_size for path in STARTER.rglob("*") if path.is_file()]
    assert sum(sizes) <= 34 * MEGABYTE
    assert max(sizes) <= 10 * MEGABYTE


def test_it_holds_no_pickles() -> None:
    assert not [path for path in STARTER.rglob("*") if path.suffix in PICKLES]


@pytest.mark.parametrize("name", ["starter", "starter-teacher"])
def test_it_loads_by_its_name_and_says_what_it_is(name: str) -> None:
    model = fewstep.load(name, device="cpu")
    assert model.name == model.origin.reference == name
    assert model.traits.default_size == (128, 128)
    assert model.card.licences
    assert model.card.data


def test_exported_it_is_the_very_model(exported: Path) -> None:
    here, there = (fewstep.load(name, device="cpu") for name in ("starter", exported))
    modules = ([module for stage in model.stages for module in stage] for model in (here, there))
    for pair in zip(*modules, strict=True):
        ours, theirs = (module.state_dict() for module in pair)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert there.card == dataclasses.replace(here.card, shared=None)
    assert dataclasses.replace(there.profile, schedule=here.profile.schedule) == here.profile
    fast = [fewstep.load(name, device="cpu", vae="fast").autoencoder.decoder for name in ("starter", exported)]
    assert all(torch.equal(a, b) for a, b in zip(*(each.parameters() for each in fast), strict=True))


def test_the_student_is_read_over_its_own_teacher_alone(tmp_path: Path) -> None:
    shutil.copytree(STARTER, folder := tmp_path / "starter", ignore=shutil.ignore_patterns("adapters"))
    weights = folder / "teacher" / "unet" / PACKED
    tensors, _ = packed.read(weights)
    packed.pack({name: tensor * 1.01 for name, tensor in tensors.items()}, weights, 6)
    with pytest.raises(InvalidModel, match="are replaced together"):
        fewstep.load(folder, device="cpu")


def test_in_half_precision_it_paints_the_same_without_a_word() -> None:
    full, half = (fewstep.load("starter", device="cpu", dtype=dtype) for dtype in ("float32", "float16"))
    assert half.dtype == torch.float16
    expected, painted = (
        np.asarray(fewstep.text2image(model, "owl", seed=1, steps=1), dtype=int) for model in (full, half)
    )  # a decoder that overflowed would warn, and warnings are errors here
    assert np.abs(painted - expected).mean() < 2


def test_the_student_names_its_teacher() -> None:
    (student, _), (teacher, _) = read_card(STARTER), read_card(STARTER / "teacher")
    assert student
    assert teacher
    assert student.teacher == teacher.name
