"""A new metric is one file: that of docs/extending.md, in the folder, is measured, kept, shown and compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from documents import blocks
from evaluate.made_up import results, row
from fewstep.evaluate import metrics
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.card import card_section
from fewstep.evaluate.compare import compare
from fewstep.evaluate.gallery import Gallery
from fewstep.evaluate.measures import measures_of, warnings_for
from fewstep.evaluate.metrics.base import Seen, Yardstick
from fewstep.evaluate.recommend import recommend
from fewstep.evaluate.report import page
from fewstep.evaluate.results import Results
from fewstep.evaluate.shards import PictureFeatures

DOCUMENT = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture
def authenticity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's file, in the folder of metrics."""
    (text,) = (block.text for block in blocks(DOCUMENT) if block.file == "authenticity.py")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "authenticity.py").write_text(text)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path / "metrics")])
    yield
    sys.modules.pop("fewstep.evaluate.metrics.authenticity", None)


def measured(features: torch.Tensor, real: torch.Tensor | None) -> dict[str, Measure]:
    """Of two pictures for each of four prompts."""
    values, flat = torch.ones(len(features)), torch.zeros(len(features), dtype=torch.bool)
    pictures = PictureFeatures(features, torch.eye(4).repeat_interleave(2, dim=0), values, values, flat)
    return measures_of(Seen(pictures, Yardstick(real, None, torch.eye(4), per_prompt=2, num_draws=5)))


@pytest.mark.usefixtures("authenticity")
def test_it_is_measured_and_right() -> None:
    real = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    copies, far = real[:8] + 1e-4, real[:8] + 100
    assert measured(copies, real)["authenticity"] == Measure(0.0, (0.0,) * 5)
    assert measured(far, real)["authenticity"].value == 1.0
    assert measured(torch.cat([copies[:6], far[6:]]), real)["authenticity"].value == 0.25
    assert "authenticity" not in measured(far, None)
    assert list(measured(far, real)).index("authenticity") == list(measured(far, real)).index("clip_score") - 1


@pytest.mark.usefixtures("authenticity")
def test_it_is_kept_shown_and_compared(tmp_path: Path) -> None:
    found = results(row("model", 1, 30.0, authenticity=0.3), row("model", 4, 10.0, authenticity=0.2))
    advice = recommend(found)
    assert advice.notes == ("At 4 steps most of its pictures are copies of real ones: 20.0% (19.0% to 21.0%) are not.",)
    found = replace(found, recommendation=asdict(advice) | {"headline": advice.headline})
    found.write(tmp_path / "results.json")
    kept = Results.read(tmp_path / "results.json")
    assert kept.rows[0].measures["authenticity"].value == 0.3
    assert "| way to sample | FD ↓ | prompt found ↑ | no copies ↑ |" in card_section(kept)
    report = page(kept, Gallery((), {}, {}))
    assert report.count("<th>Authenticity<small>↑ higher is better</small></th>") == 2  # at a glance, and all numbers
    assert 'aria-label="Authenticity against steps"' in report
    assert "few for: Authenticity" in warnings_for(100, 3, 4, ["authenticity"])[0]
    worse = results(row("model", 1, 30.0, authenticity=0.1), row("model", 4, 10.0, authenticity=0.2))
    assert [(each.name, each.better) for each in compare(kept, worse).rows if each.better] == [("authenticity", "A")]
    elsewhere = replace(worse, conditions=replace(worse.conditions, reference_identity="r2"))
    assert "authenticity" not in {each.name for each in compare(kept, elsewhere).rows}


def test_without_the_file_its_numbers_load_and_are_left_alone(tmp_path: Path) -> None:
    found = results(row("model", 1, 30.0, authenticity=0.3))
    found.write(tmp_path / "results.json")
    assert "authenticity" in Results.read(tmp_path / "results.json").rows[0].measures
    assert {each.name for each in compare(found, found).rows} == {"fd", "retrieval"}
    assert recommend(found).notes == ()
