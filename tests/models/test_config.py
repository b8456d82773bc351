"""Entries of configs are read as what they must be, or refused in words."""

from __future__ import annotations

import pytest

from fewstep.errors import InvalidModel
from fewstep.models.config import class_name, number, text, whole, wholes

CONFIG = {"name": "x", "width": 320, "rate": 0.5, "channels": [8, 16], "null": None}


def test_entries_are_what_the_config_says() -> None:
    assert text(CONFIG, "name") == "x"
    assert whole(CONFIG, "width") == 320
    assert number(CONFIG, "rate") == 0.5
    assert number(CONFIG, "width") == 320
    assert wholes(CONFIG, "channels") == (8, 16)


@pytest.mark.parametrize("name", ["absent", "null"])
def test_where_nothing_is_said_the_default_holds(name: str) -> None:
    assert text(CONFIG, name, "y") == "y"
    assert whole(CONFIG, name, 0) == 0
    assert number(CONFIG, name, 1.5) == 1.5
    assert wholes(CONFIG, name, ()) == ()
    with pytest.raises(InvalidModel, match=f"{name} is missing in a config; it must be a whole number"):
        whole(CONFIG, name)


def test_another_type_is_refused_in_words() -> None:
    with pytest.raises(InvalidModel, match=r"rate is '0.5' in a config; it must be a whole number"):
        whole(CONFIG, "rate")
    with pytest.raises(InvalidModel, match="name is 'x' in a config; it must be a number"):
        number(CONFIG, "name")
    with pytest.raises(InvalidModel, match=r"channels .* it must be text"):
        text(CONFIG, "channels")
    with pytest.raises(InvalidModel, match=r"width is '320' in a config; it must be a list of whole numbers"):
        wholes(CONFIG, "width")


@pytest.mark.parametrize("value", [True, "", [True], "8"])
def test_what_python_takes_for_a_number_or_a_list_is_none(value: object) -> None:
    for read in (whole, number, wholes):
        with pytest.raises(InvalidModel, match=r"entry is .* in a config; it must be a"):
            read({"entry": value}, "entry")


def test_a_class_has_the_name_of_either_library() -> None:
    assert class_name({"_class_name": "UNet2DConditionModel", "architectures": ["T5"]}) == "UNet2DConditionModel"
    assert class_name({"architectures": ["CLIPTextModel"]}) == "CLIPTextModel"
    assert class_name({"architectures": []}) == class_name({}) == "(unnamed)"
