"""The model card: what is written is what is read, and nothing else passes for a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import InvalidModel
from fewstep.models.card import ModelCard

CARD = ModelCard(
    name="emoji",
    kind="lcm",
    steps=4,
    guidance_scale=5.5,
    w_range=(1.0, 9.0),
    data=("noto", "twemoji"),
    licences=("Apache-2.0", "CC BY 4.0"),
    measured={"PSNR": 29.1},
)


def test_a_card_survives_the_disk(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    assert ModelCard.read(tmp_path) == CARD


def test_a_card_is_written_in_the_open_json_that_people_read(tmp_path: Path) -> None:
    values = json.loads(CARD.write(tmp_path).read_text())
    assert (values["kind"], values["w_range"], values["licences"][1]) == ("lcm", [1.0, 9.0], "CC BY 4.0")


def test_a_card_reads_well() -> None:
    text = CARD.to_markdown()
    assert text.startswith("# emoji\n\nemoji is a latent consistency model")
    assert "- Guidance scale: 5.5 by default, distilled for 2 to 10\n" in text
    assert "## Licences\n\n- Apache-2.0\n- CC BY 4.0\n" in text
    assert "## Measured\n\n- PSNR: 29.1\n" in text
    bare = ModelCard(name="x", kind="diffusion", steps=25, guidance_scale=3.0).to_markdown()
    assert "##" not in bare


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "gan"}, "kind is 'gan'; it must be one of lcm, diffusion"),
        ({"steps": 0}, "steps are 0"),
        ({"steps": "4"}, "steps are '4'"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": None}, "guidance_scale is None"),
        ({"w_range": [9.0, 1.0]}, "w_range"),
        ({"w_range": [1.0]}, "w_range"),
        ({"colour": "red"}, "unknown fields colour"),
    ],
)
def test_a_wrong_card_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    path = CARD.write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InvalidModel, match=complaint):
        ModelCard.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "x"}', "null", "\xff"])
def test_what_is_not_a_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fewstep.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidModel, match="is not a model card"):
        ModelCard.read(tmp_path)
