"""What is found in pictures: of real compositions nearly all, and each kind among its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.evaluate.two_part import real_pictures
from recipes.emoji import found

pytestmark = pytest.mark.slow


def test_each_kind_is_counted_among_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third kind's pictures are blank: nothing of it is found, and of the others as much as before."""
    real, asked, model = real_pictures(100), found.built_in(), Any

    def pictures(_: object, prompts: Sequence[str]) -> Tensor:
        return real[: len(prompts)]

    monkeypatch.setattr(found, "_pictures", pictures)
    whole = found.found_rates(model)  # type: ignore[arg-type]
    assert whole["found two parts"] > 0.9
    assert whole["found plain"] < 0.1  # those are other things
    counts = torch.tensor([each.kind == found.COUNT for each in asked])
    real[counts] = 1.0
    blank = found.found_rates(model)  # type: ignore[arg-type]
    assert blank[f"found {found.COUNT}"] == 0
    assert all(blank[f"found {kind}"] == whole[f"found {kind}"] for kind in (found.COLOUR, found.PAIR))
    lost = whole[f"found {found.COUNT}"] * int(counts.sum()) / 100
    assert blank["found two parts"] == pytest.approx(whole["found two parts"] - lost)
