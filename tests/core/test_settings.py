"""Settings know their range, and say it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fewstep.core.settings import check, setting, settings


@dataclass(frozen=True, kw_only=True)
class Record:
    steps: int = setting(option="--steps", help="How many.", low=1)
    law: str = setting("even", choices=("even", "odd"))
    share: float = setting(0.5, low=0, below=1)
    gamma: float = setting(0.0, low=0, high=1)
    rate: float | None = setting(None, above=0)
    name: str = "plain"

    def __post_init__(self) -> None:
        check(self)


def test_settings_are_the_fields_that_are_described() -> None:
    assert [name for name, _ in settings(Record)] == ["steps", "law", "share", "gamma", "rate"]
    assert dict(settings(Record(steps=1)))["steps"].option == "--steps"
    with pytest.raises(TypeError, match="steps"):
        Record()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"law": "any"}, "law='any' is unknown; use even, odd"),
        ({"share": 1.0}, r"share=1.0 must lie in \[0, 1\)"),
        ({"gamma": 1.5}, r"gamma=1.5 must lie in \[0, 1\]"),
        ({"gamma": float("nan")}, r"gamma=nan must lie in \[0, 1\]"),
        ({"rate": 0.0}, "rate=0.0 must be positive, or None"),
    ],
)
def test_what_is_out_of_its_range_is_refused_in_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Record(**{"steps": 1, **values})  # type: ignore[arg-type]
