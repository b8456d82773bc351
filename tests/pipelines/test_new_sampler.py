"""A new sampler is one file: that of docs/extending.md, in the folder, paints, is listed, and is refused in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fewstep
from documents import blocks
from fewstep.core import samplers
from fewstep.core.prediction import Velocity
from fewstep.core.profile import SamplingProfile
from fewstep.core.samplers import SAMPLERS, samplers_of
from fewstep.core.schedules import DiscreteSchedule
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.fields import FIELDS
from fewstep.server.controls import controls
from fewstep.server.doors.sdapi import lists
from oracle import GaussianWorld

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(autouse=True)
def ancestral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's file, in the folder of samplers."""
    (text,) = (block.text for block in blocks(DOCUMENT) if block.file == "ancestral.py")
    (tmp_path / "ancestral.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(samplers, "__path__", [*samplers.__path__, str(tmp_path)])
    yield
    sys.modules.pop("fewstep.core.samplers.ancestral", None)


def test_it_reaches_the_distribution_of_the_data() -> None:
    """From the exact denoiser, in 250 steps; the finite steps and 20,000 samples leave some error."""
    schedule = DiscreteSchedule.from_betas(rescale_zero_terminal_snr=True)
    profile, world = SamplingProfile.default("diffusion", schedule, Velocity()), GaussianWorld(schedule)
    generator = torch.Generator().manual_seed(0)

    def draw(_: int = 0) -> Tensor:
        return torch.randn(20_000, 1, generator=generator, dtype=torch.float64)

    sampler = SAMPLERS["ancestral"]
    *_, last = sampler.walk(world.denoise, profile, draw(), sampler.times(profile, 250), 0.5, None, draw)
    assert float(last.x_t.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(last.x_t.std()) == pytest.approx(world.s, abs=0.02)


def test_it_paints_by_its_name(teacher: Model) -> None:
    def painted(**options: object) -> np.ndarray:
        return np.asarray(fewstep.text2image(teacher, "a cat", seed=1, steps=3, **options), dtype=int)  # type: ignore[call-overload]

    ours = painted(sampler="ancestral")
    assert np.array_equal(ours, painted(sampler="ancestral"))
    assert np.abs(ours - painted(sampler="ddim")).max() > 5
    assert painted(sampler="ancestral", upscale=2.0).shape == (2 * ours.shape[0], 2 * ours.shape[1], 3)


def test_it_is_listed_where_the_others_are(teacher: Model, student: Model) -> None:
    named = ("dpm++", "unipc", "ddim", "heun", "ancestral", "lcm")
    assert samplers_of(teacher.profile) == named
    assert "ancestral" in FIELDS["sampler"].description
    (choice,) = (control for control in controls(teacher) if control["name"] == "sampler")
    assert tuple(choice["choices"]) == named
    assert "ancestral" in [listed["name"] for listed in lists.samplers(teacher)]
    with pytest.raises(InvalidRequest, match=r"'ancestral' is not for miniature.*use lcm or tcd"):
        fewstep.text2image(student, "a cat", sampler="ancestral")
