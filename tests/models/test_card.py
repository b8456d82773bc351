"""The model card: what is written is what is read, and nothing else passes for a card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fewstep.core.prediction import Velocity
from fewstep.core.profile import Guidance, SamplingProfile
from fewstep.core.schedules import DiscreteSchedule
from fewstep.errors import InvalidModel
from fewstep.models.card import ModelCard, read_card, write_card

CARD = ModelCard(name="emoji", data=("noto", "twemoji"), licences=("Apache-2.0", "CC BY 4.0"), measured={"PSNR": 29.1})
TEACHER = SamplingProfile.default("diffusion", DiscreteSchedule.from_betas(), Velocity())
STUDENT = dataclasses.replace(TEACHER.of_kind("lcm"), guidance=Guidance(5.5, (1.0, 9.0)))


def test_a_card_survives_the_disk(tmp_path: Path) -> None:
    write_card(tmp_path, CARD, STUDENT)
    card, facts = read_card(tmp_path)
    assert card == CARD
    assert TEACHER.updated(facts) == STUDENT


def test_a_folder_may_have_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) == (None, {})


def test_a_card_is_written_in_the_open_json_that_people_read(tmp_path: Path) -> None:
    values = json.loads(write_card(tmp_path, CARD, STUDENT).read_text())
    assert (values["kind"], values["w_range"], values["licences"][1]) == ("lcm", [1.0, 9.0], "CC BY 4.0")


def test_a_card_reads_well() -> None:
    text = CARD.to_markdown(STUDENT)
    assert text.startswith("# emoji\n\nemoji is a latent consistency model")
    assert "- Guidance scale: 5.5 by default, distilled for 2 to 10\n" in text
    assert "## Licences\n\n- Apache-2.0\n- CC BY 4.0\n" in text
    assert "## Measured\n\n- PSNR: 29.1\n" in text
    bare = ModelCard("x").to_markdown(TEACHER)
    assert "##" not in bare


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"colour": "red"}, "unknown fields colour; is it from a newer fewstep"),
        ({"data": 3}, "is not a model card: 'int' object"),
    ],
)
def test_a_wrong_card_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    path = write_card(tmp_path, CARD, STUDENT)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InvalidModel, match=complaint):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "x"}', "null", "\xff"])
def test_what_is_not_a_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fewstep.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidModel, match="is not a model card"):
        read_card(tmp_path)
