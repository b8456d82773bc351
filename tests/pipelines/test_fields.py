"""The table of fields, and that every door has what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from fewstep.cli.options import ASKED
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.fields import FIELDS, Options, Settings, meant, settings_of
from fewstep.pipelines.image2image import StrengthOptions
from fewstep.pipelines.plan import Plan
from fewstep.pipelines.prompt_file import read_prompts
from fewstep.pipelines.provenance import Record
from fewstep.pipelines.request import Request
from fewstep.server.controls import controls

SETTINGS = {field.name for field in dataclasses.fields(Settings)}


def test_every_setting_has_a_row_and_every_record_has_the_settings() -> None:
    assert set(FIELDS) >= SETTINGS
    for record in (Request, Plan, Record):
        assert issubclass(record, Settings)
    assert settings_of(Request(("a",), (1,), steps=3))["steps"] == 3


def test_the_type_checker_sees_what_the_table_has() -> None:
    given = {*StrengthOptions.__annotations__} - {"batch_size", "on_step"}
    assert given | {"prompt", "image", "num_images"} == set(FIELDS)
    assert {*Options.__annotations__} >= SETTINGS - {"strength"}
    kinds = {"whole": int, "number": float, "text": str, "choice": str, "switch": bool}
    for name, annotation in get_type_hints(Settings).items():
        assert kinds[FIELDS[name].type] in (annotation, *get_args(annotation))


def test_the_command_line_has_an_option_for_each() -> None:
    elsewhere = {"controls", "loras"}  # --control and --lora name what is loaded, too
    assert {name for name, _, _ in ASKED.rows} == set(FIELDS) - elsewhere


def test_help_says_range_and_default() -> None:
    assert FIELDS["strength"].description == "How much of it is painted anew, above 0 to 1. [default: 0.5]"
    assert FIELDS["upscale"].description == "Painted, made so many times larger (above 1 to 4), and painted over."


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_row_is_sound(name: str) -> None:
    field = FIELDS[name]
    assert field.low <= field.high
    assert field.needs in ("", *FIELDS)
    assert field.served is None or field.type in ("pictures", "weights", "times") or field.served <= field.high
    if field.slider is not None:
        assert field.low - (name == "loras") <= field.slider[0] < field.slider[1] <= field.high


def test_what_is_off_takes_along_what_belongs_to_it() -> None:
    values = {"upscale": 1.0, "refine_steps": 4, "variation": 0.0, "variation_seed": 9, "strength": 0.4, "tile": False}
    assert meant(values) == {"tile": False}
    assert meant(values | {"upscale": 2, "image": "x"}) == {
        "upscale": 2,
        "refine_steps": 4,
        "strength": 0.4,
        "image": "x",
        "tile": False,
    }


def test_a_file_of_prompts_has_a_column_for_each(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        'prompt,timesteps,tile,variation,variation_seed\na,"999,499",true,,\nb,,false,0.5,7\n', encoding="utf-8"
    )
    first, second = (wanted.request for wanted in read_prompts(tmp_path / "p.csv", {}))
    assert (first.timesteps, first.tile, first.variation) == ((999, 499), True, None)
    assert (second.timesteps, second.tile, second.variation, second.variation_seeds) == (None, False, 0.5, (7,))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"tile": "perhaps"}, "tile is 'perhaps'; it must be true or false"),
        ({"timesteps": "a,b"}, "give numbers with commas"),
        ({"steps": "many"}, "the number of steps is 'many'"),
        ({"colour": "1"}, "unknown field 'colour'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    names, cells = zip(*({"prompt": "a"} | row).items(), strict=True)
    text = "\n".join([",".join(names), ",".join(f'"{cell}"' for cell in cells)])
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=complaint):
        read_prompts(tmp_path / "p.csv", {})


def test_the_page_has_a_control_for_each_that_has_a_title(student: Model) -> None:
    made = {each["name"]: each for each in controls(student)}
    for name, field in FIELDS.items():
        assert (name in made) == bool(field.title)
        if field.title:
            assert (made[name]["title"], made[name]["hint"]) == (field.title, field.hint)
            assert made[name].get("minimum", field.low) >= field.low
